"""Stage 5, before the masks: put the channels of free groups into an order under which the pattern keeps more."""

from crisp_onnx.reordering.orders import Frozen, Order, Orders, find_orders, kept_share, moved_statistics

__all__ = ["Frozen", "Order", "Orders", "find_orders", "kept_share", "moved_statistics"]
