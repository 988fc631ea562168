"""`--speedup` of channels and zeros together, with stored values in the place of a clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import residual_classifier

from crisp_onnx import Recipe
from crisp_onnx.api import width_budget
from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.question import Question, read_question
from crisp_onnx.api.width_budget import require_speed, share_of_cost
from crisp_onnx.api.width_estimate import chosen_within, least_share
from crisp_onnx.api.width_split import blocks_after, narrowed
from crisp_onnx.api.widths import Widths, widths_of
from crisp_onnx.channels import Stock, stock
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load

FLOAT = 1


def stored(model: Model) -> int:
    return sum(int(np.prod(item.dims)) for item in model.proto.graph.initializer if item.data_type == FLOAT)


def question(path: Path, speedup: float) -> tuple[Recipe, Question, Widths, tuple[Stock, ...]]:
    recipe = Recipe(
        model=path, classes=(0, 1), preprocess="unit", method="channels+hybrid", speedup=speedup, round_channels=1
    )
    asked = read_question(recipe, load(path), None, None)
    widths = widths_of(recipe, asked.prepared)
    worth = {number: np.random.default_rng(0).random(widths.groups[number].width) for number in widths.free}
    return recipe, asked, widths, stock(widths.groups, worth, 1)


@pytest.fixture(autouse=True)
def _values_for_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def ratio(prepared: Prepared, model: Model, folder: Path) -> float:
        return stored(prepared.model) / stored(model)

    monkeypatch.setattr(width_budget, "measured", ratio)


def test_wider_networks_are_chosen_where_the_least_one_has_no_layer_that_can_be_sparse(tmp_path: Path) -> None:
    recipe, asked, widths, stocks = question(residual_classifier(tmp_path / "small.onnx"), 1.5)
    with_least = narrowed(
        asked.prepared, widths.model, chosen_within(widths, stocks, least_share(widths, stocks)), widths
    )
    with pytest.raises(CrispError, match="No prunable layer"):
        blocks_after(recipe, asked.prepared, with_least)
    require_speed(recipe, asked, tmp_path, Checkpoint(None))
    share = share_of_cost(recipe, asked, widths.model, widths, stocks, tmp_path, Checkpoint(None))
    assert least_share(widths, stocks) < share < 1
    after = narrowed(asked.prepared, widths.model, chosen_within(widths, stocks, share), widths)
    assert any(blocks_after(recipe, asked.prepared, after)[1].sparse())


def test_a_speed_that_leaves_no_layer_for_zeros_is_refused_before_training(tmp_path: Path) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    recipe, asked, widths, stocks = question(path, 1.5)
    least = chosen_within(widths, stocks, least_share(widths, stocks))
    most = stored(asked.prepared.model) / stored(narrowed(asked.prepared, widths.model, least, widths).model)
    recipe, asked, widths, stocks = question(path, 0.94 * most)
    with pytest.raises(CrispError, match="No prunable layer"):
        share_of_cost(recipe, asked, widths.model, widths, stocks, tmp_path, Checkpoint(None))
