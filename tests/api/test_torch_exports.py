"""Torch's own exports: `check` reads them; a one-shot compression without data works, or declines with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_onnx import CrispError, Recipe, check, compress


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy exporter", "dynamo exporter"])
def test_a_vision_transformer_is_checked_and_compressed(torch_export, dynamo: bool, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model, _ = torch_export("VisionTransformer", dynamo)
    found = check(model.path)
    assert sum(item.prunable for item in found.layers) >= 8
    recipe = Recipe(
        model=model.path,
        classes=(1, 4, 7),
        preprocess="signed",
        sparsity=0.7,
        target="portable",
        output=tmp_path / "out",
    )
    report = compress(recipe)
    assert report.sparsity.weights == pytest.approx(0.7, abs=0.01)
    assert all(budget.met for budget in report.budgets)
    assert report.equivalence.worst_relative <= 1e-5
    assert {layer.op for layer in report.layers if layer.decision == "sparse"} <= {"MatMul", "Gemm"}
    assert any("synthesised" in note for note in report.notes)


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy exporter", "dynamo exporter"])
def test_a_u_net_is_checked_and_declined_because_it_is_no_classifier(
    torch_export, dynamo: bool, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    model, _ = torch_export("UNet", dynamo)
    assert any(item.prunable for item in check(model.path).layers)
    recipe = Recipe(model=model.path, classes=(1, 2), preprocess="signed", output=tmp_path / "out")
    with pytest.raises(CrispError, match="not one row of class logits"):
        compress(recipe)
    assert not (tmp_path / "out").exists()
