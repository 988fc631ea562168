"""Quantise: bytes instead of real numbers, where the answers stay."""

from crisp_onnx.quantize.choice import MOST_POINTS, Chosen, Emission, choose, rejudged, spare_layers
from crisp_onnx.quantize.judge import Loss
from crisp_onnx.quantize.model import Quantised, rehearsed
from crisp_onnx.quantize.precision import faster_in_float32
from crisp_onnx.quantize.training import passes, trained_rounded
from crisp_onnx.quantize.whole import faster_whole

__all__ = [
    "MOST_POINTS",
    "Chosen",
    "Emission",
    "Loss",
    "Quantised",
    "choose",
    "faster_in_float32",
    "faster_whole",
    "passes",
    "rehearsed",
    "rejudged",
    "spare_layers",
    "trained_rounded",
]
