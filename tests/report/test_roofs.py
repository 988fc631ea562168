"""Roofs of a target: no layer reaches more than the highest of them, and below the dense one alone if it is dense."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="plots need the extra [report]")
from matplotlib.figure import Figure

from crisp_onnx.api.hardware import estimate
from crisp_onnx.lowering import load_target, target_names
from crisp_onnx.report.estimate_page import estimate_page
from crisp_onnx.report.roofline import PART_NAMES, STRIPE, ranges
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


def test_rooflines_beside_each_other_have_the_same_ranges(compressed: Path) -> None:
    target = load_target("stc_edge_int8")
    both = [estimate(path, target.name).estimate for path in (compressed, compressed.parents[1] / "small.onnx")]
    within = ranges(both, target)
    for one in both:
        alone = ranges([one], target)
        for axis in ("intensity", "rate"):
            assert getattr(within, axis)[0] <= getattr(alone, axis)[0]
            assert getattr(within, axis)[1] >= getattr(alone, axis)[1]
        for layer in one.layers:
            if layer.macs and layer.dram_bytes:
                intensity, rate = reached(layer, target)
                assert within.intensity[0] < intensity < within.intensity[1]
                assert within.rate[0] < rate < within.rate[1]


def test_the_page_draws_every_chart_for_a_telephone_too_and_no_legend_lies_on_a_chart(
    compressed: Path, drawn: list[Figure]
) -> None:
    found = estimate(compressed, "stc_edge_int8", against=compressed.parents[1] / "small.onnx")
    text = estimate_page(found, load_target("stc_edge_int8"))
    assert [text.count(f'<figure class="{form}">') for form in ("wide", "narrow")] == [4, 4]
    assert len(drawn) == 8
    for figure in drawn:
        figure.canvas.draw()
        assert figure.legends
        for legend, axes in product(figure.legends, figure.axes):
            assert axes.get_legend() is None
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    one, other = drawn[0].axes[0], drawn[4].axes[0]
    assert one.get_xlim() == other.get_xlim()
    assert one.get_ylim() == other.get_ylim()
    assert one.get_window_extent().width == pytest.approx(other.get_window_extent().width, abs=2)
    assert one.get_ylabel() == "reached, GMAC/s (dense)"


@pytest.mark.parametrize(
    ("name", "gigabytes", "label"),
    [
        ("stc_edge_int8", 64, "memory roof, 64 GB/s: 32 of reads and 32 of writes at a time"),
        ("arm_ethos_u65", 3.75, "memory roof, 3.75 GB/s of reads and writes in turn"),
    ],
)
def test_the_roof_of_the_memory_says_whether_reads_and_writes_share_it(name: str, gigabytes: float, label: str) -> None:
    drawn = roofs((), load_target(name), "int8")
    assert drawn.bandwidth == pytest.approx(gigabytes * 1e9)
    assert drawn.memory_label == label


@pytest.mark.parametrize("name", ["stc_edge_int8", "portable", "arm_ethos_u65"])
def test_the_bars_of_a_layer_are_its_parts_in_the_colours_of_the_legend(
    compressed: Path, drawn: list[Figure], tmp_path: Path, name: str
) -> None:
    found = estimate(compressed, name, plots=(tmp_path / "roofs.svg", tmp_path / "bars.svg")).estimate
    axes = drawn[-1].axes[0]
    lengths = dict.fromkeys(range(len(found.layers)), 0.0)
    for bar in axes.patches:
        if bar.get_height() > 2 * STRIPE:
            lengths[round(bar.get_y() + bar.get_height() / 2)] += bar.get_width()
    assert list(lengths.values()) == pytest.approx([layer.latency_ms for layer in found.layers])
    stripes = [bar.get_width() for bar in axes.patches if bar.get_height() < 2 * STRIPE]
    beside = [part.ms for layer in found.layers for part in layer.parts if part.beside is not None]
    assert sorted(stripes) == pytest.approx(sorted(beside))
    used = {part.resource for layer in found.layers for part in layer.parts}
    used |= {part.beside for layer in found.layers for part in layer.parts if part.beside is not None}
    labels = {PART_NAMES[resource] for resource in used} | ({"stripe: works too"} if beside else set())
    assert set(axes.get_legend_handles_labels()[1]) == labels


def test_the_charts_of_a_page_follow_its_theme_and_can_be_compared(compressed: Path, drawn: list[Figure]) -> None:
    found = estimate(compressed, "stc_edge_int8", against=compressed.parents[1] / "small.onnx")
    text = estimate_page(found, load_target("stc_edge_int8"))
    assert not re.findall(r"#[0-9a-f]{6}", text[text.index("<svg") :])
    assert "var(--compute)" in text
    assert "var(--ink)" in text
    bars = [figure.axes for figure in drawn if len(figure.axes) == 2 and figure.get_figwidth() > 5]
    (one, energy), (other, more) = bars
    assert one.get_xlim() == other.get_xlim()
    assert energy.get_xlim() == more.get_xlim()
    longest = max(layer.latency_ms for model in (found.estimate, found.against) if model for layer in model.layers)
    assert one.get_xlim()[1] >= longest
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
