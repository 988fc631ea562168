"""The recipe's reconstruction, as recovery calls it: on the images of the run, once for all processes."""

from __future__ import annotations

from crisp_onnx.api.checkpoint import as_first
from crisp_onnx.api.sight import Sight, parted
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import GraphModule
from crisp_onnx.masks import Candidates, Plan
from crisp_onnx.recipe import Recipe
from crisp_onnx.reconstruct import FIT, FIT_BEFORE_TRAINING, METHODS, Refitted
from crisp_onnx.recover import (
    Refit,
    State,
    fits_from,
    fits_state,
    plan_from,
    plan_state,
    put_masks,
    trained_tensors,
)


def refit_of(
    recipe: Recipe, sight: Sight, candidates: Candidates, batch: int, watch: Stopwatch, *, trains: bool
) -> Refit:
    """The recipe's reconstruction on the images that are learnt from. Some of them judge it, or those held out.

    Of several processes, the first one does it and the others get what it comes to.
    """
    images, judged = sight.images, sight.held_out
    if judged is None:
        images, judged = parted(images, recipe.seed)

    look = FIT_BEFORE_TRAINING if trains else FIT
    choice = "saliency" if recipe.recovery == "nested" else recipe.masks  # sparser masks lie inside denser ones

    def refit(module: GraphModule, plan: Plan) -> Refitted:
        state = None
        with watch("reconstruct"):
            if module.processes.first:
                found = METHODS[recipe.reconstruct](
                    module, plan, images, judged, choice=choice, batch_size=batch, look=look, seed=recipe.seed
                )
                if module.processes.count == 1:
                    return found
                state = plan_state(found.plan) | fits_state(found.fits)
            state = as_first(state, module.processes) or State()
            module.processes.spread(trained_tensors(module))
        plan = plan_from(state, candidates)
        put_masks(module, plan)
        return Refitted(plan, fits_from(state))

    return refit
