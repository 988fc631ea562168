"""From the recipe's options to a `Task`: cheap, and finds most faults before any long stage starts."""

from __future__ import annotations

import numpy as np
import torch

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.steering import Aim
from crisp_onnx.data import Classes
from crisp_onnx.errors import CrispError
from crisp_onnx.format import parse_pattern
from crisp_onnx.masks import Budget, check_keep_dense, choose, reason_to_stay_dense
from crisp_onnx.recipe import DEFAULT_SPARSITY, Recipe
from crisp_onnx.recover import Task
from crisp_onnx.saliency import criterion_named


def budget_of(recipe: Recipe) -> Budget:
    """The recipe's budget, 80 % sparsity when it names none."""
    if recipe.macs is not None:
        return Budget(kept_macs=recipe.macs)
    return Budget(kept_weights=1 - (DEFAULT_SPARSITY if recipe.sparsity is None else recipe.sparsity))


def make_task(recipe: Recipe, prepared: Prepared, classes: Classes, aim: Aim | None = None) -> Task:
    """What masks are chosen for. `aim`: the budget on a hardware target, if that is what decides.

    Raises:
        CrispError: nothing is prunable, the options do not go together, or the budget cannot be met.
    """
    pattern = parse_pattern(recipe.pattern, block=recipe.block, vector_rows=recipe.vector_rows)
    check_keep_dense(recipe.keep_dense, prepared.layers)
    reasons = {
        layer.name: reason_to_stay_dense(layer, pattern, keep_dense=recipe.keep_dense, classifier=prepared.classifier)
        for layer in prepared.layers
    }
    if all(reasons.values()):
        listed = "; ".join(sorted(set(reasons.values()))) or "it holds no Conv, Gemm or MatMul with a stored weight"
        raise CrispError(f"No prunable layer in {recipe.model.name}: {listed}. `crisp-onnx check` shows every layer.")
    budget = budget_of(recipe)
    # A dry run under a saliency that prefers nothing: a budget that cannot be met is refused now, not after an hour.
    flat = {layer.weight: np.ones(layer.shape, np.float32) for layer in prepared.layers if not reasons[layer.name]}
    planner = None if aim is None else aim.planner(prepared, pattern, reasons)
    if planner is None:
        choose(flat, prepared.layers, pattern, budget, dense_reasons=reasons)
    else:
        planner(flat)
    return Task(
        prepared.layers, pattern, budget, reasons, criterion_named(recipe.saliency), classes.indices,
        all_outputs=recipe.head == "keep", probabilities=prepared.probabilities, planner=planner,
    )  # fmt: skip


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        CrispError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CrispError(f"--device {name} is not to be had here: {reason}. Use --device cpu.") from None
    return device
