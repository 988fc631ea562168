"""Stage 6, re-fit: the weights that are left answer as the dense network's layers do."""

from crisp_onnx.reconstruct.curves import error_curves
from crisp_onnx.reconstruct.layer_fit import LayerFit
from crisp_onnx.reconstruct.least_squares import refit_layers
from crisp_onnx.reconstruct.methods import METHODS
from crisp_onnx.reconstruct.refitted import Refitted

__all__ = ["METHODS", "LayerFit", "Refitted", "error_curves", "refit_layers"]
