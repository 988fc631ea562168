"""Stage 6, re-fit: the weights that are left answer as the dense network's layers do."""

from crisp_onnx.reconstruct.least_squares import LayerFit, least_squares

__all__ = ["LayerFit", "least_squares"]
