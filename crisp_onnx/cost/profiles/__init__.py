"""Fit a target's rates to what a vendor's own tool measured."""
