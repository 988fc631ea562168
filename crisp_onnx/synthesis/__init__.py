"""Images of the user's classes out of the model itself, for the case that there are no others."""

from crisp_onnx.synthesis.ascent import Effort, effort_for, synthesise

__all__ = ["Effort", "effort_for", "synthesise"]
