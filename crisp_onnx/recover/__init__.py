"""Stage 6, train: recovery under masks, with labels or without."""

from crisp_onnx.recover.mirror import mirror_safe
from crisp_onnx.recover.moments import output_moments
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Planner, Task, final_plan, plan_from, put_masks
from crisp_onnx.recover.train import Training, recover

__all__ = [
    "Planner",
    "Task",
    "Training",
    "final_plan",
    "mirror_safe",
    "output_moments",
    "plan_from",
    "put_masks",
    "recover",
    "reestimate",
]
