"""From the recipe's options to a `Planner` and a `Task`: cheap, and finds most faults before any long stage starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.steering import hardware_target
from crisp_onnx.cost.steer import Steered
from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.format import Pattern, parse_pattern
from crisp_onnx.lowering import lower
from crisp_onnx.masks import Candidates, Plan, Planner, Threshold, left_dense, reason_to_stay_dense
from crisp_onnx.recipe import DEFAULT_SPARSITY, NESTED, Recipe
from crisp_onnx.recover import Task
from crisp_onnx.saliency import criterion_named
from crisp_onnx.task import Classification

WIDTHS_ALONE = "an ordinary operator, as --method channels makes networks narrower and prunes nothing else"


def make_planner(recipe: Recipe, prepared: Prepared) -> Planner:
    """The planner of the recipe's budget, 80 % sparsity when it names none; of several sparsities, the first.

    Raises:
        CrispError: nothing is prunable, the options do not go together, or the budget cannot be met.
    """
    pattern = parse_pattern(recipe.pattern, block=recipe.block, vector_rows=recipe.vector_rows)
    _check_levels(recipe, prepared)
    if recipe.method == "channels":
        dense = dict.fromkeys((layer.name for layer in prepared.layers), WIDTHS_ALONE)
        return Threshold(Candidates(prepared.layers, pattern, dense, macs_beside=prepared.beside.macs), 1.0)
    _check_packed(recipe, prepared)
    candidates = find_candidates(prepared, pattern, asked=left_dense(recipe.keep_dense, prepared.layers))
    return _planner(recipe, prepared, candidates)


def rehearse(planner: Planner) -> Plan:
    """A plan under a saliency that prefers no layer: a budget that cannot be met is refused now, not after an hour.

    Raises:
        CrispError: as `Planner.plan`.
    """
    if not planner.candidates.free:
        return planner.candidates.plan(())
    random = np.random.default_rng(0)
    return planner.plan(
        {layer.weight: random.random(layer.shape, dtype=np.float32) for layer in planner.candidates.free}
    )


def find_candidates(prepared: Prepared, pattern: Pattern, *, asked: Mapping[str, str] | None = None) -> Candidates:
    """The layers that may become sparse under `pattern`, and why each other does not. `asked`: reasons of the user's.

    Raises:
        CrispError: no layer may.
    """
    left = {**(asked or {}), **prepared.left}
    reasons = {layer.name: reason_to_stay_dense(layer, pattern, left=left) for layer in prepared.layers}
    candidates = Candidates(prepared.layers, pattern, reasons, macs_beside=prepared.beside.macs)
    if not candidates.free:
        raise CrispError(
            f"No prunable layer in {prepared.source.path.name}: {candidates.obstacles}. `crisp-onnx check` shows every "
            "layer."
        )
    return candidates


def _check_packed(recipe: Recipe, prepared: Prepared) -> None:
    names = [layer.name for layer in prepared.layers]
    for key, named in (("packed", recipe.packed or ()), ("most_blocks", recipe.most_blocks)):
        for name in named:
            if name not in names:
                raise CrispError(
                    f"`{key}` in the recipe names {name!r}, but {recipe.model.name} has no such layer."
                    f"{nearest(name, names)} Leave `packed` and `most_blocks` out to time the layers on this machine."
                )


def level_planners(recipe: Recipe, planner: Planner) -> tuple[Planner, ...]:
    """A planner for each of the recipe's several sparsities, from that of the first; none where there is one budget.

    Raises:
        CrispError: one of them cannot be met.
    """
    if not isinstance(planner, Threshold):
        return ()
    found = tuple(replace(planner, kept=1 - share) for share in recipe.sparsities)
    for each in found if planner.candidates.free else ():
        rehearse(each)
    return found


def make_task(recipe: Recipe, planner: Planner, answers: Classification) -> Task:
    """What recovery trains for and `planner` chooses masks for."""
    levels = level_planners(recipe, planner)
    last = levels[-1] if levels else planner
    return Task(last, criterion_named(recipe.saliency), answers, all_outputs=recipe.head == "keep", levels=levels)


def _check_levels(recipe: Recipe, prepared: Prepared) -> None:
    """Whether several sparsities and the mode that trains for them go together."""
    if not recipe.sparsities:
        if recipe.recovery == NESTED:
            raise CrispError("--recovery nested trains for several sparsities. Name them, as in --sparsity 0.75,0.875.")
        return
    if recipe.recovery != NESTED:
        raise CrispError("Several sparsities come out of one training with --recovery nested. Add that, or name one.")
    if recipe.epochs == 0:
        raise CrispError("--recovery nested trains, so it needs --epochs. Give a number of them, or one sparsity.")
    if prepared.batch == 1:
        raise CrispError(
            "The file fixes the batch at one image, so nothing can be trained for several sparsities. Export it with a "
            "dynamic batch, or name one sparsity."
        )


def _planner(recipe: Recipe, prepared: Prepared, candidates: Candidates) -> Planner:
    if recipe.latency_ms is None and recipe.energy_mj is None:
        if recipe.macs is not None:
            return Threshold(candidates, recipe.macs, of="macs")
        first = recipe.sparsities[0] if isinstance(recipe.sparsity, tuple) else recipe.sparsity
        return Threshold(candidates, 1 - (DEFAULT_SPARSITY if first is None else first))
    target = hardware_target(recipe)
    if target is None:
        option = "--latency-ms" if recipe.latency_ms is not None else "--energy-mj"
        raise CrispError(
            f"{option} needs a hardware target to be estimated on: name one with --target (`crisp-onnx targets` lists "
            "them), or measure this machine with `crisp-onnx targets calibrate`."
        )
    lowered = lower(prepared.model, target, size=prepared.size)
    if recipe.latency_ms is not None:
        return Steered(candidates, recipe.latency_ms, "latency_ms", lowered, target)
    return Steered(candidates, recipe.energy_mj or 0.0, "energy_mj", lowered, target)
