"""What the untouched model says of the user's images before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from crisp_onnx.api.first_look import first_look
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.summarise import _forgotten
from crisp_onnx.data import Classes, open_images, parse_preprocess
from crisp_onnx.model import Model
from crisp_onnx.runtime.evaluate import Comparison, Counts
from crisp_onnx.task import task_of

SHADES = (20, 90, 160, 230)
Pairs = list[tuple[Any, int]]
Look = Callable[..., tuple[str, ...]]


def shades(labels: tuple[int, ...] = (0, 1, 2, 3), per_class: int = 6, seed: int = 0) -> Pairs:
    """Grey images: shade k has the label `labels[k]`."""
    rng = np.random.default_rng(seed)
    return [
        (np.clip(shade + rng.normal(0, 4, (8, 8, 3)), 0, 255).astype(np.uint8), label)
        for shade, label in zip(SHADES, labels, strict=True)
        for _ in range(per_class)
    ]


@pytest.fixture
def look(model_of: Callable[..., Model], tmp_path: Path) -> Look:
    """A first look of a model whose output `y` knows the shades of images between 0 and 1, and whose `z` does not."""

    def run(
        data: Pairs | None, judged: Pairs | None = None, *, wanted: tuple[int, ...] = (0, 1, 2, 3), output: str = "y",
        preprocess: str = "unit",
    ) -> tuple[str, ...]:  # fmt: skip
        grey = np.array(SHADES) / 255
        model = model_of(
            "(float[N,3,8,8] x) => (float[N,4] y, float[N,4] z) <float[4,3] w, float[4] b, float[4,3] u, float[4] c>"
            "{ p = GlobalAveragePool(x) f = Flatten(p) y = Gemm<transB=1>(f, w, b) z = Gemm<transB=1>(f, u, c) }",
            # The largest of g x - g^2 / 2 is that of the g nearest to x.
            w=np.repeat(grey[:, None] / 3, 3, 1),
            b=-(grey**2) / 2,
            u=np.zeros((4, 3)),
            c=[0, 1, 0, 0],
        )
        onnx.save(model.proto, tmp_path / "shades.onnx")
        prepared = prepare(tmp_path / "shades.onnx", output=output)
        classes = Classes(wanted, tuple(f"shade {index}" for index in wanted))
        form = parse_preprocess(preprocess, prepared.source.input)
        images, seen = (None if d is None else open_images(d, classes, None, form) for d in (data, judged))
        asked = SimpleNamespace(
            prepared=prepared, classes=classes, answers=task_of(prepared.head, wanted), images=images, judged=seen
        )
        return first_look(asked)  # type: ignore[arg-type]

    return run


def test_of_a_model_that_knows_the_images_nothing_is_said(look: Look) -> None:
    assert look(shades()) == ()
    assert look(shades(), wanted=(2,)) == ()
    assert look(None, shades()) == ()
    assert look(None) == ()


def test_other_preprocessing_is_tried_and_named(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    (note,) = look(shades(), preprocess="mean=-2,std=1")
    assert "guessing is right about 25.0 %" in note
    assert "With --preprocess unit it is right about 100.0 % of them." in note
    assert note in caplog.text


def test_another_output_is_tried_and_named(look: Look) -> None:
    (note,) = look(shades(), output="z")
    assert "By output 'y' it is right about 100.0 %: try --output-name." in note


@pytest.mark.parametrize("labels", [(1, 2, 3, 0), (3, 2, 1, 0)])
def test_names_that_do_not_go_together_with_the_outputs_are_seen(look: Look, labels: tuple[int, ...]) -> None:
    (note,) = look(shades(labels))
    assert "names and outputs do not go together" in note
    assert f"shade {labels[0]} ({labels[0]}) with output 0" in note
    assert "--labels-offset" in note


def test_a_model_that_calls_every_class_by_another_output_is_said_though_it_tells_them_apart(look: Look) -> None:
    # Shades 0 and 3 bear the numbers 1 and 2: between these two outputs the model is right about both.
    moved = [(image, {0: 1, 3: 2}[label]) for image, label in shades() if label in (0, 3)]
    (note,) = look(moved, wanted=(1, 2))
    assert note.startswith("Over all its outputs the untouched model is right about 0.0 % of 12 of your images.")
    assert "shade 1 (1) with output 0, of shade 2 (2) with output 3: names and outputs do not go together" in note


@pytest.mark.parametrize(("labels", "first"), [((0, 1, 3, 2), 2), ((0, 3, 2, 1), 1)])
def test_a_few_classes_that_have_changed_places_are_said_though_the_others_are_right(
    look: Look, labels: tuple[int, ...], first: int
) -> None:
    (note,) = look(shades(labels))
    assert note.startswith("Over all its outputs the untouched model is right about ")
    assert f"It answers the images of shade {first} ({first}) with output {labels.index(first)}, of shade " in note
    assert "names and outputs do not go together" in note


def test_images_to_judge_by_are_asked_about_too(look: Look) -> None:
    (note,) = look(shades(), shades((1, 2, 3, 0), seed=1))
    assert "names and outputs do not go together" in note
    assert "shade 1 (1) with output 0" in note
    assert len(look(shades((1, 2, 3, 0)), shades((1, 2, 3, 0), seed=1))) == 2
    assert look(shades(), shades(seed=1)) == ()


def test_images_to_judge_by_that_were_learnt_are_said(look: Look) -> None:
    (note,) = look(shades(), shades())
    assert "--eval-data and --data hold the same" in note
    assert look(shades(), shades(seed=1)) == ()


def test_a_gain_over_all_outputs_is_explained() -> None:
    def told(before: int, after: int, wanted: int) -> tuple[str, ...]:
        counts = tuple(Counts(right, 90, 100) for right in (before, after))
        comparison = Comparison(counts, 90, 100)  # type: ignore[arg-type]
        head = SimpleNamespace(classes=10)
        outcome = SimpleNamespace(comparison=comparison, classes=range(wanted), prepared=SimpleNamespace(head=head))
        return _forgotten(outcome)  # type: ignore[arg-type]

    (note,) = told(60, 87, 3)
    assert "gains 27.0 points because it hardly answers with other classes" in note
    assert told(60, 62, 3) == ()
    assert told(60, 87, 10) == ()
