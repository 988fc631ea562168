"""What a run of `compress` is known by: all that its weights depend on, by the names that a user knows it by."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from crisp_onnx import __version__
from crisp_onnx.api.question import Question
from crisp_onnx.data import Images, Preprocess
from crisp_onnx.processes import started_by_torchrun
from crisp_onnx.recipe import NAME_OR_FILE_KEYS, PATH_KEYS, Recipe, input_files

STATE_FORMAT = 1


def identity_of(recipe: Recipe, asked: Question) -> dict[str, Any]:
    """Plain values. Another value of one of them is another run, whose state is of no use to this one.

    `recipe`: as the user gave it, nothing timed yet.
    """
    return {
        "crisp-onnx": __version__,
        "the form of the state": STATE_FORMAT,
        "torch": torch.__version__,
        "the number of threads": torch.get_num_threads(),
        "the number of processes": started_by_torchrun().count,
        **_on_any_machine(recipe, asked),
    }


def sweep_identity(recipe: Recipe, asked: Question) -> str:
    """A digest of what the points of a sweep have in common, wherever they are made: with what they are judged on."""
    told = {**_on_any_machine(recipe, asked), "the set of images in --eval-data": _fingerprint(asked.judged)}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def _on_any_machine(recipe: Recipe, asked: Question) -> dict[str, Any]:
    options = recipe.model_dump(mode="json", exclude={*PATH_KEYS, "one_file"})
    form = asked.form
    return {
        "the model": asked.prepared.source.sha256,
        "the list of classes": list(asked.answers.wanted),
        "the outputs that matter": asked.answers.outputs,
        "the preprocessing": form.describe() if isinstance(form, Preprocess) else f"{form.dtype} {form.shape}",
        "the set of images in --data": _fingerprint(asked.images),
        "the bank": None if recipe.bank is None else _digest(recipe.bank),
        **{f"the content of {path.name}": _digest(path) for path in input_files(recipe) if _is_target(recipe, path)},
        **{f"--{name.replace('_', '-')}": value for name, value in options.items()},
    }


def _fingerprint(images: Images | None) -> str | None:
    return None if images is None else images.fingerprint()


def _is_target(recipe: Recipe, path: Path) -> bool:
    return any(getattr(recipe, key) == os.fspath(path) for key in NAME_OR_FILE_KEYS)


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
