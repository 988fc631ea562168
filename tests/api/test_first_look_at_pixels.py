"""What the untouched model says of the pixels of the user's images before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from crisp_onnx.api.first_look import first_look
from crisp_onnx.api.prepare import prepare
from crisp_onnx.data import Classes, parse_preprocess
from crisp_onnx.data.segmented import open_segmented
from crisp_onnx.model import Model
from crisp_onnx.task import task_of

SHADES = np.array((20, 90, 160, 230))
Look = Callable[..., tuple[str, ...]]


@pytest.fixture
def look(model_of: Callable[..., Model], tmp_path: Path) -> Look:
    """A first look at grey images, most of them shade 0, of a model whose output `y` knows shades between 0 and 1."""

    def run(
        labels: tuple[int, ...] = (0, 1, 2, 3), *, wanted: tuple[int, ...] = (0, 1, 2, 3), output: str = "y",
        preprocess: str = "unit",
    ) -> tuple[str, ...]:  # fmt: skip
        grey = SHADES / 255
        model = model_of(
            "(float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z)"
            " <float[4,3,1,1] w, float[4] b, float[4,3,1,1] u, float[4] c> { y = Conv(x, w, b) z = Conv(x, u, c) }",
            # The largest of g x - g^2 / 2 is that of the g nearest to x.
            w=np.repeat(grey[:, None] / 3, 3, 1).reshape(4, 3, 1, 1),
            b=-(grey**2) / 2,
            u=np.zeros((4, 3, 1, 1)),
            c=[1, 0, 0, 0],
        )
        onnx.save(model.proto, tmp_path / "shades.onnx")
        kinds = np.random.default_rng(0).choice(4, (5, 8, 8), p=(0.85, 0.05, 0.05, 0.05))
        np.savez(
            tmp_path / "d.npz", x=np.repeat(SHADES[kinds].astype(np.uint8)[..., None], 3, 3), y=np.array(labels)[kinds]
        )
        prepared = prepare(tmp_path / "shades.onnx", output=output, task="segmentation")
        classes = Classes(wanted, tuple(f"shade {index}" for index in wanted))
        form = parse_preprocess(preprocess, prepared.source.input)
        images = open_segmented(tmp_path / "d.npz", classes, None, form, 4)
        answers = task_of(prepared.head, wanted)
        asked = SimpleNamespace(prepared=prepared, classes=classes, answers=answers, images=images, judged=None)
        return first_look(asked)  # type: ignore[arg-type]

    return run


def test_of_a_model_that_knows_the_pixels_nothing_is_said(look: Look) -> None:
    assert look() == ()
    assert look(wanted=(1, 3)) == ()


def test_a_model_that_says_background_everywhere_is_near_chance(look: Look) -> None:
    (note,) = look(output="z")
    assert "right about 25.0 % of the pixels of each class, on average, in 5 of your images" in note
    assert "guessing is right about 25.0 %" in note
    assert "By output 'y' it is right about 100.0 %: try --output-name." in note


def test_other_preprocessing_is_tried_and_named(look: Look) -> None:
    (note,) = look(preprocess="mean=-2,std=1")
    assert "With --preprocess unit it is right about 100.0 % of them." in note


@pytest.mark.parametrize("labels", [(1, 2, 3, 0), (3, 2, 1, 0)])
def test_labels_that_are_no_output_indices_are_seen(look: Look, labels: tuple[int, ...]) -> None:
    (note,) = look(labels)
    assert f"pixels of shade 0 (0) with output {labels.index(0)}" in note
    assert "Check that the pixels of the labels are output indices." in note


def test_classes_that_are_called_by_other_outputs_are_seen_though_told_apart(look: Look) -> None:
    assert look((255, 1, 2, 255), wanted=(1, 2)) == ()
    (note,) = look((1, 255, 255, 2), wanted=(1, 2))
    assert note.startswith("Over all its outputs the untouched model is right about 0.0 % of the pixels of each class")
    assert "shade 1 (1) with output 0, of shade 2 (2) with output 3" in note
