"""Channel groups: which channels of a graph live and die, and may change places, together."""

from crisp_onnx.groups.find import channel_groups
from crisp_onnx.groups.group import Barrier, ChannelGroup, Member
from crisp_onnx.groups.order import reorder

__all__ = ["Barrier", "ChannelGroup", "Member", "channel_groups", "reorder"]
