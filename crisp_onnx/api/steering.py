"""What a hardware target has to say about a run: the pattern it rewards, and a budget of its milliseconds or energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.cost.calibrate.machine import measured_elsewhere
from crisp_onnx.cost.steer import TargetBudget, plan_cost, rewarded_pattern, steer
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.lower import Lowered, Target, load_target, lower
from crisp_onnx.masks import Plan
from crisp_onnx.recipe import PORTABLE, Recipe
from crisp_onnx.recover import Planner


@dataclass(frozen=True)
class Aim:
    """A budget on a hardware target. `lowered`: the dense model there."""

    budget: TargetBudget
    target: Target
    lowered: Lowered

    def planner(self, prepared: Prepared, pattern: Pattern, dense_reasons: Mapping[str, str]) -> Planner:
        """From saliency by weight name to the plan of most saliency within the budget."""
        return partial(
            steer, layers=prepared.layers, pattern=pattern, budget=self.budget, lowered=self.lowered,
            target=self.target, dense_reasons=dense_reasons,
        )  # fmt: skip

    def cost(self, plan: Plan) -> float:
        """ms or mJ of the model with `plan`, as the budget counts them."""
        return plan_cost(plan, self.lowered, self.target, self.budget.objective)


def hardware_target(recipe: Recipe) -> Target | None:
    """The hardware that the recipe names; None for this host and for `portable`.

    Raises:
        CrispError: unknown name, or a file that is no sound descriptor.
    """
    return None if recipe.target in (None, PORTABLE) else load_target(recipe.target)


def with_rewarded_pattern(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with its hardware target's pattern in place of defaults, and notes on that and on foreign times.

    What the user gave of pattern, block and vector rows stays.

    Raises:
        CrispError: a bad target, or one that skips no zeros.
    """
    target = hardware_target(recipe)
    if target is None:
        return recipe, ()
    foreign = measured_elsewhere(target)
    notes = (foreign,) if foreign else ()
    free = {"pattern", "block", "vector_rows"} - recipe.model_fields_set
    if not free:
        return recipe, notes
    pattern, why = rewarded_pattern(target)
    rewarded = {"pattern": str(pattern), "block": pattern.block, "vector_rows": pattern.vector_rows}
    told = (f"The target chose the pattern: {why}.", *notes)
    return recipe.model_copy(update={key: rewarded[key] for key in free}), told


def aim_of(recipe: Recipe, prepared: Prepared) -> Aim | None:
    """The recipe's budget on its hardware target, or None where it names no such budget.

    Raises:
        CrispError: a budget without a hardware target, or two budgets.
    """
    if recipe.latency_ms is None and recipe.energy_mj is None:
        return None
    budget = TargetBudget(recipe.latency_ms, recipe.energy_mj)
    target = hardware_target(recipe)
    if target is None:
        option = "--latency-ms" if recipe.latency_ms is not None else "--energy-mj"
        raise CrispError(
            f"{option} needs a hardware target to be estimated on: name one with --target (`crisp-onnx targets` lists "
            "them), or measure this machine with `crisp-onnx targets calibrate`."
        )
    return Aim(budget, target, lower(prepared.model, target, size=prepared.size))
