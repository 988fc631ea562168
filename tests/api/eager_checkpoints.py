"""Imported by a process that is to be killed: it keeps its state after every step that took a twentieth of a second."""

from crisp_onnx.api import checkpoint

checkpoint.LEAST_APART_S, checkpoint.MOST_SHARE = 0.05, 0.5
