"""Stage 4, score: one criterion a file, and the statistics they need."""

from crisp_onnx.saliency.collection import collect
from crisp_onnx.saliency.criteria import CRITERIA, Criterion, criterion_named
from crisp_onnx.saliency.gradients import GradientMeans, gradient_means

__all__ = ["CRITERIA", "Criterion", "GradientMeans", "collect", "criterion_named", "gradient_means"]
