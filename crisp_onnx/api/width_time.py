"""The estimated time or energy of a network on a hardware target as a cost of its widths."""

from __future__ import annotations

from typing import Literal, NamedTuple

from crisp_onnx.api.steering import hardware_target
from crisp_onnx.channels import Extent, WidthCost
from crisp_onnx.cost.estimator import Variant, cost_operators
from crisp_onnx.cost.layer import LayerCost
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import lower
from crisp_onnx.model import Model, Size
from crisp_onnx.recipe import Recipe


class Limit(NamedTuple):
    """The most that one inference may take on the target, in milliseconds or nominal millijoules, as `of` says."""

    of: Literal["latency_ms", "energy_mj"]
    amount: float

    @property
    def option(self) -> str:
        return f"--{self.of.replace('_', '-')}"

    @property
    def unit(self) -> str:
        return "ms" if self.of == "latency_ms" else "mJ"


def limit_of_widths(recipe: Recipe) -> Limit | None:
    """The estimate that the narrower network is to keep within; `None` where the budget is another one."""
    if not recipe.narrows:
        return None
    if recipe.latency_ms is not None:
        return Limit("latency_ms", recipe.latency_ms)
    return None if recipe.energy_mj is None else Limit("energy_mj", recipe.energy_mj)


def estimated(recipe: Recipe, limit: Limit, model: Model, size: Size) -> float:
    """What the whole model takes on the recipe's target, in what the limit is given in.

    Raises:
        CrispError: the recipe names no hardware, or one that says nothing about energy when that is the limit.
    """
    return _amount(_costed(recipe, limit, model, size), limit)


def cost_of_widths(recipe: Recipe, limit: Limit, model: Model, extent: Extent, size: Size) -> WidthCost:
    """What the limit counts, where each operator takes the less of it the fewer its products or its results are.

    Lanes and memory make that a little wrong, so that what is left is estimated anew for the choice that it leads to.
    """
    found = _costed(recipe, limit, model, size)
    spent: dict[str, float] = {}
    for layer in found.layers:
        spent[layer.name] = spent.get(layer.name, 0.0) + _amount(layer, limit)
    return extent.weighed(spent, rest=max(0.0, _amount(found, limit) - sum(spent.values())))


def _costed(recipe: Recipe, limit: Limit, model: Model, size: Size) -> Variant:
    target = hardware_target(recipe)
    if target is None:
        raise CrispError(
            f"{limit.option} needs a hardware target to be estimated on: name one with --target (`crisp-onnx targets` "
            "lists them), or measure this machine with `crisp-onnx targets calibrate`."
        )
    return cost_operators("as_is", lower(model, target, size=size).operators, target)


def _amount(found: Variant | LayerCost, limit: Limit) -> float:
    if limit.of == "latency_ms":
        return found.latency_ms
    if found.nominal_uj is None:
        raise CrispError("This target says nothing about energy. Use --latency-ms, or add an energy table to it.")
    return found.nominal_uj / 1e3
