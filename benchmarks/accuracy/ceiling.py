"""The ceiling of a table: the dense model fine-tuned as the compressed one was, under masks that keep everything."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from benchmarks.real_data import CifarImages, class_set
from crisp_onnx import Recipe
from crisp_onnx.api.crossing import BATCHES
from crisp_onnx.api.planning import make_planner, make_task
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.api.words import find_classes, find_preprocess
from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.data import hold_out, open_images
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Threshold
from crisp_onnx.model import save
from crisp_onnx.reconstruct import Refitted
from crisp_onnx.recover import MODES, NoKeeper, Training
from crisp_onnx.runtime.evaluate import Comparison, compare_on, open_stock
from crisp_onnx.task import task_of


def dense_by_the_same_recipe(recipe: Recipe, folder: Path, number: int) -> Comparison:
    """What the untouched and the fine-tuned dense model answer on the test images of CIFAR's class set `number`."""
    classes = class_set(number)
    preprocess = find_preprocess(recipe.preprocess, prepare(recipe.model).source)
    prepared = prepare(recipe.model, size=preprocess.size)
    chosen = find_classes(recipe.classes, None, prepared.head.classes)
    answers = task_of(prepared.head, chosen.indices)
    candidates = replace(
        make_planner(recipe, prepared).candidates, pattern=Pattern(4, 4, recipe.block, recipe.vector_rows)
    )
    everything = make_task(recipe, Threshold(candidates, 1.0), answers)
    images = open_images(CifarImages(folder, "train", classes), chosen, None, preprocess)
    images, _ = hold_out(images, HELD_OUT, seed=recipe.seed)
    module = to_torch(prepared.model)
    torch.manual_seed(recipe.seed)
    ones = {name: torch.ones_like(dict(module.named_parameters())[name]) for name in everything.weights}
    training = Training(recipe.epochs or 0, BATCHES[prepared.task](prod(prepared.size)), flip=True, seed=recipe.seed)
    MODES[recipe.recovery].recover(
        module, images, ones, everything, training, lambda module, plan: Refitted(plan), NoKeeper()
    )
    judged = open_images(CifarImages(folder, "test", classes), chosen, None, preprocess)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "dense.onnx"
        save(write_back(module, prepared.model), path)
        return compare_on((open_stock(recipe.model), open_stock(path)), (answers, answers), judged)
