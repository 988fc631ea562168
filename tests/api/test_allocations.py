"""Every way to share the budget meets it, and is kept for a run that is taken up."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api.allocation import ALLOCATIONS
from crisp_onnx.recipe import Recipe as Options


def test_the_table_has_what_the_recipe_offers() -> None:
    offered = Options.model_fields["allocation"].annotation
    assert set(ALLOCATIONS) == set(offered.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize("allocation", ["sensitivity", "search"])
def test_a_budget_shared_by_trials_is_met(allocation: str, tmp_path: Path) -> None:
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=(0, 2, 5), preprocess="signed", target="portable",
        sparsity=0.75, epochs=0, allocation=allocation, output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=coloured_images(8))
    assert all(budget.met for budget in report.budgets)
    assert report.sparsity.weights == pytest.approx(0.75, abs=0.03)
