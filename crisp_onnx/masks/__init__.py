"""Stage 5, choose: allocation, planners and the plan."""

from crisp_onnx.masks.curve import Curve, curve_through
from crisp_onnx.masks.eligible import reason_to_stay_dense
from crisp_onnx.masks.keep_dense import left_dense
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer
from crisp_onnx.masks.planner import Candidates, Planner, Saliency, Spent
from crisp_onnx.masks.projection import best_blocks, nearest, with_mask
from crisp_onnx.masks.scored import score_layer
from crisp_onnx.masks.threshold import FLOOR, Threshold

__all__ = [
    "FLOOR",
    "Candidates",
    "Curve",
    "DenseLayer",
    "Plan",
    "Planner",
    "Saliency",
    "SparseLayer",
    "Spent",
    "Threshold",
    "best_blocks",
    "curve_through",
    "left_dense",
    "nearest",
    "reason_to_stay_dense",
    "score_layer",
    "with_mask",
]
