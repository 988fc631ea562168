"""Images of the user's classes out of the model itself, for the case that there are no others."""

from crisp_onnx.synthesis.ascent import Effort, as_synthesised, effort_for, synthesise

__all__ = ["Effort", "as_synthesised", "effort_for", "synthesise"]
