"""Which layers stay in float32: as few as make the loss small, or, where none do, those that help most."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crisp_onnx.data import Preprocess
from crisp_onnx.format.node import Grid
from crisp_onnx.model import Model
from crisp_onnx.quantize import choice
from crisp_onnx.quantize.judge import Loss

NOISE = {f"layer{number}": 1 / (1 + number) for number in range(8)}


@pytest.mark.parametrize(
    ("points", "spared"),
    [
        ([9.0, 9.0, 0.2, 0.0], 2),  # points lost with 0, 1, 2 and 4 layers in float32
        ([(0.0, 5.0, 1.0), (0.0, 3.0, 0.6), (0.0, 0.7, 0.3), (0.0, 0.2, 0.1)], 4),  # which counts do not show
        ([9.0, 3.0, 4.0, 5.0], 1),
        ([9.0, 8.0, 7.0, 5.0], 4),
        ([9.0, 9.5, 8.9, 8.8], 0),  # nothing that helps is nothing to pay for
    ],
)
def test_as_many_layers_are_spared_as_bring_the_loss_down_or_help_most(
    points: list[float | tuple[float, float, float]], spared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [found if isinstance(found, tuple) else (found, 0.0, 0.0) for found in points]
    lost = dict(zip((0, 1, 2, 4), told, strict=True))

    class Judge:
        def __init__(self, *_: object) -> None: ...

        def loss(self, number: int) -> Loss:
            return Loss(*lost[number], 0.0)

    monkeypatch.setattr(choice, "Judge", Judge)
    monkeypatch.setattr(choice, "sample", lambda images, most: images)
    monkeypatch.setattr(choice, "_noise", lambda *_: NOISE)
    monkeypatch.setattr(
        choice, "quantise_model", lambda model, grids, *, keep, **_: SimpleNamespace(model=len(keep), keep=keep)
    )
    start: Any = choice.Chosen(SimpleNamespace(model=0), "range", Loss(*told[0], 0.0), 8, 8, {}, {})  # type: ignore[arg-type]
    emission: Any = SimpleNamespace(hybrid=None, size=None, whole=(), task=None)
    found = choice.spare_layers(emission, start, [], None, against=None)  # type: ignore[arg-type]
    assert list(found.keep) == list(NOISE)[:spared]
    assert found.loss == Loss(*lost[spared], 0.0)


def test_a_layer_is_judged_where_its_bytes_are_written(model_of: Callable[..., Model]) -> None:
    graph = model_of("""(float[N,4] x) => (float[N,4] y) <float[4,4] u, float[4,4] v, float[4,4] w, float low> {
      a = MatMul(x, u)
      r = Relu(a)
      c = Clip(r, low)
      b = MatMul(c, v)
      s = Relu(b)
      p = Add(s, b)
      y = MatMul(p, w)
    }""").graph()
    assert [place.output for place in choice.weight_places(graph)] == ["c", "b", "y"]


TAKES = {"float": np.float32, "float16": np.float32, "uint8": np.uint8}


@pytest.mark.parametrize("takes", TAKES)
def test_every_pixel_has_a_byte_whatever_the_images_that_were_looked_at(
    takes: str, model_of: Callable[..., Model]
) -> None:
    dtype = TAKES[takes]
    body = "x = Cast<to: int = 1>(given) f = Flatten(x) y = MatMul(f, w)"
    text = f"({takes}[N,3,4,4] given) => (float[N,1] y) <float[48,1] w> {{ {body} }}"
    form = Preprocess((0.5, 0.4, 0.3), (0.25, 0.25, 0.5), (4, 4), dtype=np.dtype(dtype))
    images: Any = SimpleNamespace(preprocess=form)
    found = choice.pixel_grids(model_of(text), images)["x"]
    low, high = (0, 255) if dtype == np.uint8 else (-0.5 / 0.25, 0.6 / 0.25)
    assert found.zero == round(-low / (high - low) * 255)
    assert found.scale == pytest.approx((high - low) / 255)


def test_what_is_no_picture_is_known_by_what_was_seen_alone(model_of: Callable[..., Model]) -> None:
    text = "(float[N,4] x) => (float[N,1] y) <float[4,1] w> { y = MatMul(x, w) }"
    images: Any = SimpleNamespace(preprocess=SimpleNamespace(size=(4, 4)))
    assert choice.pixel_grids(model_of(text), images) == {}


def test_grids_of_pixels_come_before_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Grid]] = []

    def quantised(model: object, grids: dict[str, Grid], **_: object) -> Any:
        told.append(grids)
        return SimpleNamespace(model=None)

    monkeypatch.setattr(choice, "quantise_model", quantised)
    monkeypatch.setattr(choice, "grids_by", lambda method, seen: {"x": Grid(0.001, 3), "y": Grid(0.1, 0)})
    judge: Any = SimpleNamespace(loss=lambda model: Loss(0.0, 0.0, 0.0, 0.0))
    emission: Any = SimpleNamespace(hybrid=None, size=None, whole=())
    choice._best_method(emission, {}, {"x": Grid(0.5, 128)}, judge, {})
    assert told == [{"x": Grid(0.5, 128), "y": Grid(0.1, 0)}] * len(choice.METHODS)
