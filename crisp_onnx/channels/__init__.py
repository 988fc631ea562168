"""How many channels each group keeps, and which: what they cost, what they are worth, and the choice among them."""

from crisp_onnx.channels.extent import Extent

__all__ = ["Extent"]
