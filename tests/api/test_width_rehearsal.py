"""Budgets of `--method channels` and `channels+hybrid` are rehearsed: what is offered is taken, what is less is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.width_split import rehearse_widths
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load, save


def stem_that_stays_dense(folder: Path, model_of: Callable[..., Model]) -> Path:
    """A stem of three channels, which no pattern fits, holds a third of the MACs and can only become narrower."""
    built = model_of(
        "(float[N,3,12,12] image) => (float[N,6] logits)"
        " <float[32,3,7,7] first, float[32,32,3,3] second, float[6,32] last, float[N,32,12,12] a,"
        " float[N,32,12,12] b> {"
        " a = Conv <pads: ints = [3, 3, 3, 3]> (image, first) b = Relu(a)"
        " c = Conv <pads: ints = [1, 1, 1, 1]> (b, second) d = Relu(c) e = GlobalAveragePool(d) f = Flatten(e)"
        " logits = Gemm <transB: int = 1> (f, last) }"
    )
    path = folder / "stem.onnx"
    save(built, path)
    return path


def test_channels_take_of_the_budget_what_zeros_cannot(tmp_path: Path, model_of: Callable[..., Model]) -> None:
    """Of 0.08, channels are to leave 0.28 and zeros as much of that, but then the stem alone is more."""
    path = stem_that_stays_dense(tmp_path, model_of)
    recipe = Recipe(
        model=path, classes=(0, 1, 2), preprocess="unit", method="channels+hybrid", macs=0.08, round_channels=4,
        block=8, target="portable", epochs=0, reconstruct="none", output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=coloured_images(per_class=12))
    assert report.budgets[0].met
    assert report.channels is not None
    assert 0.08 < report.channels.macs_left < 0.25
    assert [layer.name for layer in report.layers if layer.decision == "sparse"]


def test_a_budget_of_both_that_cannot_be_met_is_refused_with_both_shares_and_what_is_offered_is_taken(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    path = stem_that_stays_dense(tmp_path, model_of)
    recipe = Recipe(
        model=path, classes=(0, 1), preprocess="unit", method="channels+hybrid", macs=0.02, round_channels=4, block=8
    )
    prepared = prepare(load(path), size=(12, 12))
    with pytest.raises(
        CrispError, match=r"^--macs 0\.02 cannot be met .*leave 0\.\d+ of the MACs and zeros 0"
    ) as refused:
        rehearse_widths(recipe, prepared)
    offered = re.search(r"at least (0\.\d+)", str(refused.value))
    assert offered
    plan = rehearse_widths(recipe.model_copy(update={"macs": float(offered[1])}), prepared)
    assert plan is not None
    assert any(plan.sparse())


def test_what_channels_alone_are_said_to_leave_at_the_least_is_what_they_leave(tmp_path: Path) -> None:
    prepared = prepare(residual_classifier(tmp_path / "small.onnx"))
    recipe = Recipe(
        model=prepared.source.path, classes=(0, 1), method="channels+hybrid", macs=0.011, round_channels=1, block=16
    )
    with pytest.raises(CrispError, match=r"channels alone leave 0\.\d+") as refused:
        rehearse_widths(recipe, prepared)
    offered = re.search(r"alone leave (0\.\d+)", str(refused.value))
    assert offered
    least = float(offered[1])
    rehearse_widths(recipe.model_copy(update={"method": "channels", "macs": least}), prepared)
    with pytest.raises(CrispError, match=f"Ask for at least {least}"):
        rehearse_widths(recipe.model_copy(update={"method": "channels", "macs": least - 0.0015}), prepared)


def test_widths_that_are_multiples_of_less_are_offered_where_they_leave_less(tmp_path: Path) -> None:
    prepared = prepare(load(residual_classifier(tmp_path / "small.onnx")))
    recipe = Recipe(model=prepared.source.path, classes=(0, 1), method="channels", macs=0.008, round_channels=8)
    with pytest.raises(CrispError, match=r"multiples of less than --round-channels 8") as refused:
        rehearse_widths(recipe, prepared)
    offered = re.search(r"of 1: at least (0\.\d+)", str(refused.value))
    assert offered
    finer = recipe.model_copy(update={"round_channels": 1, "macs": float(offered[1])})
    rehearse_widths(finer, prepared)
    with pytest.raises(CrispError, match=r"Ask for at least [0-9.]+, or go on") as refused:
        rehearse_widths(finer.model_copy(update={"macs": float(offered[1]) - 0.0015}), prepared)
    assert "multiples" not in str(refused.value)


def test_layers_kept_dense_are_named_where_they_are_why_a_budget_cannot_be_met(tmp_path: Path) -> None:
    prepared = prepare(load(residual_classifier(tmp_path / "small.onnx")))
    recipe = Recipe(
        model=prepared.source.path, classes=(0, 1), method="channels", macs=0.03, round_channels=2, keep_dense=("stem",)
    )
    with pytest.raises(CrispError, match=r"than with --keep-dense \(with none: at least 0\.\d+\), or go on") as refused:
        rehearse_widths(recipe, prepared)
    assert "--round-channels" not in str(refused.value)  # of 1 it is no less
    offered = re.search(r"with none: at least (0\.\d+)", str(refused.value))
    assert offered
    rehearse_widths(recipe.model_copy(update={"keep_dense": (), "macs": float(offered[1])}), prepared)
