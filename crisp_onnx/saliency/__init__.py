"""Stage 4, score: one criterion a file, and the statistics they need."""

from crisp_onnx.saliency.collection import collect
from crisp_onnx.saliency.criteria import CRITERIA, Criterion, criterion_named
from crisp_onnx.saliency.gradients import GradientSums, gradient_sums
from crisp_onnx.saliency.sums import Sums

__all__ = ["CRITERIA", "Criterion", "GradientSums", "Sums", "collect", "criterion_named", "gradient_sums"]
