"""The images that are learnt from: given or synthesised, and those held back from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.crossing import Crossed
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import Images, InputForm, Preprocess, hold_out
from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import State
from crisp_onnx.synthesis import as_synthesised, effort_for, synthesise
from crisp_onnx.task import Classification

HELD_OUT = 0.1


@dataclass(frozen=True)
class Sight:
    """What is learnt from, what is kept back, and what the user should know of it."""

    images: Images
    held_out: Images | None
    notes: tuple[str, ...]


def see(
    recipe: Recipe,
    prepared: Prepared,
    crossed: Crossed,
    answers: Classification,
    form: InputForm,
    given: Images | None,
    checkpoint: Checkpoint,
) -> Sight:
    """The images to learn from, synthesised where none are given, and those held out of them."""
    if given is None:
        assumed = (f"{form.assumed.capitalize()}.",) if form.assumed else ()
        if not isinstance(form, Preprocess):
            raise CrispError("Rows of values cannot be synthesised from a model. Give some with --data.")
        effort = replace(effort_for(form.size, len(answers.wanted), prepared.macs), batch=crossed.batch)
        images = _made(form, checkpoint, lambda: synthesise(crossed.module, answers, form, effort, seed=recipe.seed))
        note = (
            f"No images to learn from were given: {len(images)} were synthesised from the model itself. Saliency "
            "follows what the model believes of its classes. Pass --data to learn from real images."
        )
        return Sight(images, None, (*assumed, note))
    return sight_of(recipe, form, given)


def sight_of(recipe: Recipe, form: InputForm, given: Images) -> Sight:
    """The images given, without those held out."""
    assumed = (f"{form.assumed.capitalize()}.",) if form.assumed else ()
    notes = (*assumed, *given.told())
    if not spares_some(given):
        return Sight(given, None, notes)
    images, held_out = hold_out(given, HELD_OUT, seed=recipe.seed)
    return Sight(images, held_out, notes)


def spares_some(given: Images) -> bool:
    """Whether there are enough images to hold some of each class out."""
    of_a_class = [len(given)] if given.labels is None else np.unique(given.labels, return_counts=True)[1]
    return bool(min(of_a_class) > 1)


def parted(images: Images, seed: int) -> tuple[Images, Images]:
    """Some images to fit to and some to judge by; a single one is both."""
    if len(images) < 2:
        return images, images
    one_each = images.labels is not None and len(np.unique(images.labels)) == len(images)
    return hold_out(replace(images, labels=None) if one_each else images, HELD_OUT, seed=seed)


def _made(form: Preprocess, checkpoint: Checkpoint, make: Callable[[], Images]) -> Images:
    """The images that `make` gives, or those that a run which was stopped had made."""
    kept = checkpoint.get("images")
    if kept is not None:
        return as_synthesised(kept.tensors["pixels"].numpy(), kept.tensors["labels"].numpy(), form)
    images = make()
    pixels = np.concatenate(
        [images.store.read(images.rows[[place]], images.preprocess) for place in range(len(images))]
    )
    checkpoint.put("images", State({"pixels": torch.tensor(pixels), "labels": torch.tensor(images.labels)}))
    return images
