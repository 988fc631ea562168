"""The estimated time of a network on a hardware target as a cost of its widths."""

from __future__ import annotations

from crisp_onnx.api.steering import hardware_target
from crisp_onnx.channels import Extent, WidthCost
from crisp_onnx.cost.estimator import Variant, cost_operators
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import lower
from crisp_onnx.model import Model, Size
from crisp_onnx.recipe import Recipe


def estimated(recipe: Recipe, model: Model, size: Size) -> Variant:
    """What each operator of the model, and all together, take on the recipe's target.

    Raises:
        CrispError: the recipe names no hardware.
    """
    target = hardware_target(recipe)
    if target is None:
        raise CrispError(
            "--latency-ms needs a hardware target to be estimated on: name one with --target (`crisp-onnx targets` "
            "lists them), or measure this machine with `crisp-onnx targets calibrate`."
        )
    return cost_operators("as_is", lower(model, target, size=size).operators, target)


def time_of_widths(recipe: Recipe, model: Model, extent: Extent, size: Size) -> WidthCost:
    """Milliseconds, where each operator takes the less time the fewer its products or its results are.

    Lanes and memory make that a little wrong, so that what is left is estimated anew for the choice that it leads to.
    """
    found = estimated(recipe, model, size)
    spent: dict[str, float] = {}
    for layer in found.layers:
        spent[layer.name] = spent.get(layer.name, 0.0) + layer.latency_ms
    return extent.weighed(spent, rest=found.latency_ms - sum(spent.values()))
