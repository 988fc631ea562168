"""Stage 5, choose: allocation and the plan."""

from crisp_onnx.masks.channel_groups import ChannelGroup, channel_groups
from crisp_onnx.masks.choose import FLOOR, Budget, choose
from crisp_onnx.masks.eligible import check_keep_dense, reason_to_stay_dense
from crisp_onnx.masks.plan import DenseLayer, Plan, SparseLayer

__all__ = [
    "FLOOR",
    "Budget",
    "ChannelGroup",
    "DenseLayer",
    "Plan",
    "SparseLayer",
    "channel_groups",
    "check_keep_dense",
    "choose",
    "reason_to_stay_dense",
]
