"""How many channels each group keeps, and which: what they cost, what they are worth, and the choice among them."""

from crisp_onnx.channels.choice import LEAST_SHARE, Choice, Stock, choose, least_cost, stock
from crisp_onnx.channels.extent import Extent, WidthCost
from crisp_onnx.channels.gates import Gates, clamped_ramp, ejector, first_scores
from crisp_onnx.channels.worth import by_group, channel_means, channel_worth, weight_norms

__all__ = [
    "LEAST_SHARE",
    "Choice",
    "Extent",
    "Gates",
    "Stock",
    "WidthCost",
    "by_group",
    "channel_means",
    "channel_worth",
    "choose",
    "clamped_ramp",
    "ejector",
    "first_scores",
    "least_cost",
    "stock",
    "weight_norms",
]
