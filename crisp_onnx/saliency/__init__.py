"""Stage 4, score: one criterion a file, the statistics they need, and the bank that keeps those of every class."""

from crisp_onnx.saliency.bank import Bank
from crisp_onnx.saliency.collection import collect, statistic_of
from crisp_onnx.saliency.criteria import CRITERIA, Criterion, criterion_named
from crisp_onnx.saliency.gradients import GradientSums, gradient_sums
from crisp_onnx.saliency.outputs import output_squares
from crisp_onnx.saliency.sums import Sums

__all__ = [
    "CRITERIA",
    "Bank",
    "Criterion",
    "GradientSums",
    "Sums",
    "collect",
    "criterion_named",
    "gradient_sums",
    "output_squares",
    "statistic_of",
]
