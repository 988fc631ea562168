"""Stage 6, train: recovery under masks, with labels or without."""

from crisp_onnx.recover.mirror import mirror_safe
from crisp_onnx.recover.moments import output_moments
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task, put_masks, saliency_of
from crisp_onnx.recover.train import Training, recover

__all__ = [
    "Task",
    "Training",
    "mirror_safe",
    "output_moments",
    "put_masks",
    "recover",
    "reestimate",
    "saliency_of",
]
