"""Which layers stay in float32: as few as make the loss small, or, where none do, those that help most."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

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
