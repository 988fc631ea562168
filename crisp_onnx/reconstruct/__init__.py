"""Stage 6, re-fit: the weights that are left answer as the dense network's layers do."""

from crisp_onnx.reconstruct.curves import error_curves
from crisp_onnx.reconstruct.gathering import CURVES, CURVES_BEFORE_TRAINING, FIT, FIT_BEFORE_TRAINING
from crisp_onnx.reconstruct.layer_fit import LayerFit
from crisp_onnx.reconstruct.least_squares import refit_layers
from crisp_onnx.reconstruct.methods import METHODS
from crisp_onnx.reconstruct.refitted import Refitted

__all__ = [
    "CURVES",
    "CURVES_BEFORE_TRAINING",
    "FIT",
    "FIT_BEFORE_TRAINING",
    "METHODS",
    "LayerFit",
    "Refitted",
    "error_curves",
    "refit_layers",
]
