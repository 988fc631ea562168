"""Several sparsities out of one training: a folder each, and what does not go together is refused before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress, compress_nested, inspect
from crisp_onnx.errors import CrispError


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=(0, 2, 4), preprocess="unit", target="portable",
        sparsity=(0.6, 0.8), recovery="nested", epochs=2, output=tmp_path / "out", first_finetune=1,
    )  # fmt: skip


def test_each_sparsity_gets_a_folder_with_a_model_that_holds_it(recipe: Recipe) -> None:
    reports = compress_nested(recipe, data=coloured_images(24))
    assert sorted(path.name for path in recipe.folder.iterdir()) == ["0.6", "0.8"]
    for report, share in zip(reports, (0.6, 0.8), strict=True):
        assert report.sparsity.weights == pytest.approx(share, abs=0.03)
        assert all(budget.met for budget in report.budgets)
        assert "The dense model was fine-tuned first, for 1 epochs, and taught the sparse one." in report.notes
        assert inspect(recipe.folder / f"{share:g}" / "model.onnx").layers
    shared = [
        {t.name: t.raw_data for t in onnx.load(folder / "model.onnx").graph.initializer} for folder in recipe.folders
    ]
    assert shared[0]["fc.weight"] == shared[1]["fc.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recovery": "fixed"}, "with --recovery nested"),
        ({"sparsity": 0.8}, "as in --sparsity 0.75,0.875"),
        ({"epochs": 0}, "needs --epochs"),
        ({"epochs": None}, "give --data or --epochs"),
        ({"sparsity": (0.2, 0.8)}, "keeps more than pattern"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe: Recipe, change: dict[str, Any], message: str) -> None:
    changed = recipe.model_copy(update=change)
    with pytest.raises(CrispError, match=message):
        (compress_nested if changed.sparsities else compress)(changed)
    assert not recipe.folder.exists()


@pytest.mark.parametrize("sparsity", [(0.8, 0.6), (0.8, 0.8), (0.5, 1.2), (0.8,)])
def test_sparsities_ascend_between_none_and_all(recipe: Recipe, sparsity: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"ascend|out of range|at least 2"):
        Recipe(**{**recipe.model_dump(), "sparsity": sparsity})


def test_one_sparsity_and_several_have_a_function_each(recipe: Recipe) -> None:
    with pytest.raises(CrispError, match="call compress_nested"):
        compress(recipe)
    with pytest.raises(CrispError, match="call compress, or"):
        compress_nested(recipe.model_copy(update={"sparsity": 0.8}))
