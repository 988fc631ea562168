"""`--latency-ms` and `--energy-mj` for channels: the narrower network is estimated to take no more, and little less."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from small_models import residual_classifier

from crisp_onnx import Recipe
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.width_estimate import chosen_within, estimated_share, narrowed_form
from crisp_onnx.api.width_split import rehearse_widths, split
from crisp_onnx.api.width_time import Limit, estimated, limit_of_widths
from crisp_onnx.api.widths import widths_of
from crisp_onnx.channels import stock
from crisp_onnx.errors import CrispError


def asked(path: Path, **options: object) -> Recipe:
    given = {"classes": (0, 1), "method": "channels", "target": "stc_edge_int8", "round_channels": 1}
    return Recipe(model=path, **given | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("of", ["latency_ms", "energy_mj"])
@pytest.mark.parametrize("share", [0.9, 0.7])
def test_the_estimate_of_the_cut_network_meets_the_limit_and_uses_it(tmp_path: Path, share: float, of: str) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    prepared = prepare(path)
    any_limit = Limit(of, 1.0)  # type: ignore[arg-type]
    whole = estimated(asked(path), any_limit, prepared.model, prepared.size)
    recipe = asked(path, **{of: share * whole})
    limit = limit_of_widths(recipe)
    assert limit is not None
    widths = widths_of(recipe, prepared)
    worth = {number: np.random.default_rng(0).random(widths.groups[number].width) for number in widths.free}
    stocks = stock(widths.groups, worth, 1)
    found = estimated_share(recipe, limit, widths.model, widths, stocks)
    narrow = narrowed_form(recipe, widths.model, chosen_within(widths, stocks, found), widths, prepared.size)
    assert 0.85 * share * whole < estimated(recipe, limit, narrow, prepared.size) <= share * whole
    assert widths.cost.at(np.zeros(len(widths.groups))) == pytest.approx(
        estimated(recipe, limit, widths.model, prepared.size)
    )


def test_what_cannot_be_met_or_estimated_is_refused(tmp_path: Path) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    prepared = prepare(path)
    with pytest.raises(CrispError, match="with the least of every group of channels"):
        rehearse_widths(asked(path, latency_ms=1e-9), prepared)
    with pytest.raises(CrispError, match="needs a hardware target"):
        rehearse_widths(asked(path, latency_ms=1.0, target=None), prepared)
    with pytest.raises(CrispError, match=r"--energy-mj 1e-09 cannot be met.* mJ"):
        rehearse_widths(asked(path, energy_mj=1e-9), prepared)
    with pytest.raises(CrispError, match="says nothing about energy"):
        rehearse_widths(asked(path, energy_mj=1.0, target="arm_ethos_u65"), prepared)


@pytest.mark.parametrize("of", ["latency_ms", "energy_mj"])
def test_what_a_refusal_says_that_channels_take_at_the_least_is_met(tmp_path: Path, of: str) -> None:
    prepared = prepare(residual_classifier(tmp_path / "small.onnx"))
    for method in ("channels", "channels+hybrid"):
        recipe = asked(prepared.source.path, method=method, **{of: 1e-9})
        with pytest.raises(CrispError, match=r"1e-09 cannot be met.* estimated to take") as refused:
            rehearse_widths(recipe, prepared)
        offered = re.search(r"estimated to take ([\d.e-]+\d) m[sJ]", str(refused.value))
        assert offered
        rehearse_widths(recipe.model_copy(update={"method": "channels", of: float(offered[1])}), prepared)


def both(path: Path, prepared: Prepared, share: float, of: str) -> tuple[Recipe, float]:
    """A recipe of channels and zeros that are to take `share` of the estimate of the whole, and that whole."""
    recipe = asked(path, method="channels+hybrid", block=8, vector_rows=4)
    whole = estimated(recipe, Limit(of, 1.0), prepared.model, prepared.size)  # type: ignore[arg-type]
    return recipe.model_copy(update={of: share * whole}), whole


@pytest.mark.parametrize("of", ["latency_ms", "energy_mj"])
def test_channels_before_zeros_take_their_part_of_the_estimate_and_none_where_the_source_meets_it(
    tmp_path: Path, of: str
) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    prepared = prepare(path)
    left = []
    for share in (1.2, 0.8, 0.7):
        recipe, whole = both(path, prepared, share, of)
        widths = widths_of(recipe, prepared)
        worth = {number: np.random.default_rng(0).random(widths.groups[number].width) for number in widths.free}
        found = split(recipe, prepared, widths.model, widths, stock(widths.groups, worth, 1))
        assert found.planner.spent(found.rehearsed).met
        narrow = narrowed_form(
            recipe,
            widths.model,
            chosen_within(widths, stock(widths.groups, worth, 1), found.share),
            widths,
            widths.size,
        )
        left.append(estimated(recipe, Limit(of, 1.0), narrow, widths.size) / whole)  # type: ignore[arg-type]
    assert left[0] == pytest.approx(1)
    assert left[2] < left[1] < left[0]
    assert left[1] <= 0.8**0.5
    assert left[2] <= 0.7**0.5


def test_a_limit_too_small_for_channels_and_zeros_is_refused_with_what_they_cost(tmp_path: Path) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    prepared = prepare(path)
    recipe, _ = both(path, prepared, 0.6, "latency_ms")
    with pytest.raises(CrispError, match=r"cannot be met on stc_edge_int8.* With fewer channels left it cannot"):
        rehearse_widths(recipe, prepared)
