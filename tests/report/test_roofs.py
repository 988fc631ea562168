"""Roofs of a target: no layer reaches more than the highest of them, and below the dense one alone if it is dense."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_onnx.api.hardware import estimate
from crisp_onnx.lowering import load_target, target_names
from crisp_onnx.report.roofs import ROUNDING, reached, roofs


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_models import coloured_images, residual_classifier

    from crisp_onnx import Recipe, compress

    folder = tmp_path_factory.mktemp("roofs")
    recipe = Recipe(
        model=residual_classifier(folder / "small.onnx"), classes=(0, 1), preprocess="unit", epochs=0, sparsity=0.85,
        target="portable", output=folder / "out",
    )  # fmt: skip
    compress(recipe, data=coloured_images(6))
    return folder / "out" / "model.onnx"


@pytest.mark.parametrize("name", target_names())
def test_no_layer_lies_above_the_roofs_that_are_drawn(compressed: Path, name: str) -> None:
    target = load_target(name)
    found = estimate(compressed, name).estimate
    layers = [layer for layer in found.layers if layer.macs and layer.dram_bytes]
    drawn = roofs(layers, target, found.dtype)
    assert drawn.compute[0].label == "dense roof"
    assert [roof.rate for roof in drawn.compute] == sorted(roof.rate for roof in drawn.compute)
    for layer in layers:
        intensity, rate = reached(layer, target)
        assert rate <= ROUNDING * drawn.highest
        if target.descriptor.array.design != "host_link":  # there, weights that are pinned never come from memory
            assert rate <= ROUNDING * drawn.limit(intensity, drawn.highest)
            assert not drawn.beyond(intensity, rate)


def test_a_target_that_skips_zeros_has_a_roof_for_each_pattern_and_for_the_sparsest_layer(compressed: Path) -> None:
    target = load_target("stc_edge_int8")
    found = estimate(compressed, "stc_edge_int8").estimate
    drawn = roofs(found.layers, target, found.dtype)
    dense = drawn.compute[0].rate
    rates = {roof.label: roof.rate / dense for roof in drawn.compute}
    assert rates["2:4 roof"] == pytest.approx(2)
    assert rates["1:4 roof"] == pytest.approx(4)
    least = min(layer.computed_macs / layer.macs for layer in found.layers if layer.macs)
    assert drawn.highest == pytest.approx(max(4 * dense, dense / least))
