"""Channel groups: which channels of a graph live and die, and may change places, together."""

from crisp_onnx.groups.find import channel_groups
from crisp_onnx.groups.group import Barrier, ChannelGroup, Member
from crisp_onnx.groups.order import reorder
from crisp_onnx.groups.removal import Removal, Removed, removed_indices
from crisp_onnx.groups.rules.reductions import reduced_axes
from crisp_onnx.groups.rules.shuffle import shuffle_chain, shuffled_orders
from crisp_onnx.groups.rules.stated import pieces
from crisp_onnx.groups.separation import separate

__all__ = [
    "Barrier",
    "ChannelGroup",
    "Member",
    "Removal",
    "Removed",
    "channel_groups",
    "pieces",
    "reduced_axes",
    "removed_indices",
    "reorder",
    "separate",
    "shuffle_chain",
    "shuffled_orders",
]
