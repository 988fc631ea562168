"""The ceiling of a table: the dense model fine-tuned as the compressed one was, under masks that keep everything."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from crisp_onnx import Recipe
from crisp_onnx.api.crossing import BATCHES
from crisp_onnx.api.planning import make_task
from crisp_onnx.api.question import read_question
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.data import Source, hold_out
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Threshold
from crisp_onnx.model import load, save
from crisp_onnx.reconstruct import Refitted
from crisp_onnx.recover import MODES, NoKeeper, training_for
from crisp_onnx.runtime.evaluate import Comparison, compare_on, open_stock


def dense_by_the_same_recipe(recipe: Recipe, train: Source, test: Source) -> Comparison:
    """What the untouched and the fine-tuned dense model answer on `test`.

    Raises:
        CrispError: the input or an option of the recipe is at fault.
    """
    asked = read_question(recipe, load(recipe.model), train, test)
    if asked.images is None or asked.judged is None:
        raise ValueError("A ceiling needs images to learn from and to be judged by.")
    prepared, answers = asked.prepared, asked.answers
    candidates = replace(asked.planner.candidates, pattern=Pattern(4, 4, recipe.block, recipe.vector_rows))
    everything = make_task(recipe, Threshold(candidates, 1.0), answers)
    images, held_out = hold_out(asked.images, HELD_OUT, seed=recipe.seed)
    module = to_torch(prepared.model).to(recipe.device)
    torch.manual_seed(recipe.seed)
    parameters = dict(module.named_parameters())
    ones = {name: torch.ones_like(parameters[name]) for name in everything.weights}
    batch = BATCHES[prepared.task](prod(prepared.size))
    training, _ = training_for(
        module, images, held_out, everything, recipe.epochs or 0, batch_size=batch, seed=recipe.seed
    )
    MODES[recipe.recovery].recover(
        module, images, ones, everything, training, lambda module, plan: Refitted(plan), NoKeeper()
    )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "dense.onnx"
        save(write_back(module.cpu(), prepared.model), path)
        return compare_on((open_stock(recipe.model), open_stock(path)), (answers, answers), asked.judged)
