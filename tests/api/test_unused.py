"""Options that a run would not read are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_onnx import Recipe
from crisp_onnx.api.unused import require_use
from crisp_onnx.errors import CrispError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "channels", "pattern": "2:4"}, "--pattern is of no use: --method channels"),
        ({"method": "channels", "vector_rows": 8}, "--vector-rows is of no use: --method channels"),
        ({"reconstruct": "none", "masks": "alps"}, "--masks is of no use: --reconstruct none"),
        ({"round_channels": 8}, "--round-channels is of no use: --method hybrid"),
    ],
)
def test_an_option_that_the_run_would_not_read_is_refused(given: dict[str, object], words: str) -> None:
    recipe = Recipe.model_validate({"model": Path("m.onnx"), "classes": (0,), **given})
    with pytest.raises(CrispError, match=words):
        require_use(recipe, given)
    require_use(recipe, ())  # as a recipe.yaml says it, which names everything


@pytest.mark.parametrize(
    "given",
    [
        {"method": "channels+hybrid", "pattern": "1:4", "round_channels": 16},
        {"masks": "obs"},
        {"method": "channels", "round_channels": 4},
    ],
)
def test_options_that_are_read_are_not_refused(given: dict[str, object]) -> None:
    require_use(Recipe.model_validate({"model": Path("m.onnx"), "classes": (0,), **given}), given)
