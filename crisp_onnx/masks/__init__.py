"""Stage 5, choose: allocation, planners and the plan."""

from crisp_onnx.masks.eligible import reason_to_stay_dense
from crisp_onnx.masks.keep_dense import left_dense
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer
from crisp_onnx.masks.planner import Candidates, Planner, Saliency, Spent
from crisp_onnx.masks.threshold import FLOOR, Threshold

__all__ = [
    "FLOOR",
    "Candidates",
    "DenseLayer",
    "Plan",
    "Planner",
    "Saliency",
    "SparseLayer",
    "Spent",
    "Threshold",
    "left_dense",
    "reason_to_stay_dense",
]
