"""What a hardware target has to say about a run: the hardware itself, and the pattern it rewards."""

from __future__ import annotations

from crisp_onnx.cost.calibrate.machine import measured_elsewhere
from crisp_onnx.cost.rewarded import rewarded_pattern
from crisp_onnx.lowering import Target, load_target
from crisp_onnx.recipe import PORTABLE, Recipe


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
    if recipe.method == "channels":  # no pattern
        return recipe, notes
    free = {"pattern", "block", "vector_rows"} - recipe.model_fields_set
    if not free:
        return recipe, notes
    pattern, why = rewarded_pattern(target)
    rewarded = {"pattern": str(pattern), "block": pattern.block, "vector_rows": pattern.vector_rows}
    told = (f"The target chose the pattern: {why}.", *notes)
    return recipe.model_copy(update={key: rewarded[key] for key in free}), told
