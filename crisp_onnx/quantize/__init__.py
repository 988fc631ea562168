"""Quantise: bytes instead of real numbers, where the answers stay."""

from crisp_onnx.quantize.choice import MOST_POINTS, Chosen, Emission, choose, spare_layers
from crisp_onnx.quantize.judge import Loss
from crisp_onnx.quantize.model import Quantised

__all__ = ["MOST_POINTS", "Chosen", "Emission", "Loss", "Quantised", "choose", "spare_layers"]
