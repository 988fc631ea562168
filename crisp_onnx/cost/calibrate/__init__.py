"""Measure this machine and write a target: synthetic networks, their layers' times, a fit, and its own error."""
