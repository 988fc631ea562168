"""Where training starts: masks chosen, and the weights that are left re-fitted, by this run or by the one taken up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.masking import plan_from, plan_state, put_masks, saliency_of
from crisp_onnx.recover.recovered import Refit
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.task import Task

PART = "start"


def masked_start(
    module: GraphModule, statistics: Mapping[str, Tensor], task: Task, refit: Refit, keeper: Keeper
) -> tuple[Plan, tuple[LayerFit, ...]]:
    """Give `module` the masks that the task's planner chooses and re-fit it, in place."""
    found = keeper.get(PART)
    if found is not None:
        plan = plan_from(found.part("plan"), task.planner.candidates)
        put_masks(module, plan)
        restore(trained_tensors(module), found.part("module"))
        return plan, fits_from(found)
    plan = task.planner.plan(saliency_of(module, statistics, task))
    put_masks(module, plan)
    refitted = refit(module, plan)
    plan, fits = refitted.plan, refitted.fits
    weights = copied(trained_tensors(module)).under("module")
    keeper.put(PART, weights | plan_state(plan).under("plan") | fits_state(fits))
    return plan, fits


def trained_tensors(module: GraphModule) -> dict[str, Tensor]:
    """Everything that training changes in a module: its parameters and the statistics of its BatchNorms."""
    return dict(module.named_parameters()) | {name: module.get_statistic(name) for name in module.statistics}


def fits_state(fits: tuple[LayerFit, ...]) -> State:
    """How layers were re-fitted, as a state of values."""
    return State({}, {"fits": [asdict(fit) for fit in fits]})


def fits_from(state: State) -> tuple[LayerFit, ...]:
    """The fits whose state that is."""
    return tuple(LayerFit(**fit) for fit in state.values.get("fits", ()))
