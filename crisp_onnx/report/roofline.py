"""Plots of an estimate: the roofline of a target with the model's layers, and stacked bars per layer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from crisp_onnx.cost import Estimate, LayerCost
from crisp_onnx.cost.energy import Energy
from crisp_onnx.cost.layer import Bound, Resource
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Target
from crisp_onnx.reading import shown
from crisp_onnx.report.inline_svg import inline, style
from crisp_onnx.report.roofs import Roofs, reached, roofs
from crisp_onnx.writing import require_name

BOUND_COLOURS: dict[Resource, str] = {
    "compute": "#2b6cb0", "onchip": "#b7791f", "dram": "#c53030", "overhead": "#6b46c1",
}  # fmt: skip
PART_COLOURS: dict[Resource, str] = {**BOUND_COLOURS, "weights": "#dd6b20", "activations": "#319795"}
PART_NAMES: dict[Resource, str] = {
    "compute": "computing", "onchip": "on-chip traffic", "dram": "memory traffic", "overhead": "fixed overhead",
    "weights": "reading weights", "activations": "reading and writing activations",
}  # fmt: skip
ROOF, MEMORY, GRID = "#1a202c", "#718096", "#e2e8f0"
VARIABLES = {
    **{colour: f"--{name}" for name, colour in PART_COLOURS.items()},
    "#63b3ed": "--lrf", "#38a169": "--rf", ROOF: "--ink", MEMORY: "--quiet", GRID: "--faint",
}  # fmt: skip
"""The CSS variables by which a page colours its charts."""
ENERGY_COLOURS = {
    "mac": "#2b6cb0",
    "lrf": "#63b3ed",
    "rf": "#38a169",
    "buffer": "#b7791f",
    "dram": "#c53030",
    "static": "#718096",
}
BAR_INCHES = 0.16
STRIPE = 0.27
"""Of the height of a row, for what works beside what limits a layer."""
ROOM = 1.5
"""Of the axes beyond the roofs and the points, as a factor."""


@dataclass(frozen=True)
class Canvas:
    """`inches` of a roofline and of bars with one panel, and of bars with two, `beside` each other or below.

    Names are no longer than `name_length`, titles and labels are broken after `title_length`; text of `points`.
    `themed`: in the colours of the page, and without a title, for the page has one.
    """

    inches: float
    inches_of_two: float
    beside: bool
    name_length: int
    title_length: int
    points: float
    themed: bool = False


CANVASES = {
    "file": Canvas(9.0, 14.0, True, 36, 200, 8),
    "wide": Canvas(7.9, 7.9, True, 24, 60, 9, themed=True),
    "narrow": Canvas(4.2, 4.2, False, 18, 40, 9, themed=True),
}
"""Of a file of its own, of a page on a screen, and of a page on a telephone."""


@dataclass(frozen=True)
class Ranges:
    """Of the axes of a roofline: dense MACs a byte of memory, and dense MACs a second."""

    intensity: tuple[float, float]
    rate: tuple[float, float]


@dataclass(frozen=True)
class Lengths:
    """The longest bars of the charts beside each other: ms and nominal uJ of a layer."""

    ms: float
    uj: float


def lengths(estimates: Sequence[Estimate]) -> Lengths:
    """Of all layers of all estimates."""
    layers = [layer for one in estimates for layer in one.layers]
    longest = max((layer.latency_ms for layer in layers), default=0.0)
    return Lengths(longest, max((layer.nominal_uj or 0.0 for layer in layers), default=0.0))


def ranges(estimates: Sequence[Estimate], target: Target) -> Ranges:
    """Those that hold the roofs and the layers of all estimates, so that their plots can be compared."""
    seen = [(layer, one.dtype) for one in estimates for layer in _products(one)]
    places = [reached(layer, target) for layer, _ in seen]
    intensity = [layer.macs / layer.dram_bytes for layer, _ in seen] or [1.0]
    edges = min(intensity) / 2, max(intensity) * 2
    drawn = [roofs(_products(one), target, one.dtype) for one in estimates]
    rates = [rate for _, rate in places] + [roof.rate for found in drawn for roof in found.compute]
    rates += [found.limit(edges[0], found.highest) for found in drawn]
    return Ranges(edges, (min(rates) / ROOM, max(rates) * ROOM))


def _products(estimate: Estimate) -> list[LayerCost]:
    return [layer for layer in estimate.layers if layer.macs and layer.dram_bytes and layer.latency_ms]


def write_roofline(
    estimate: Estimate, target: Target, path: Path, *, within: Ranges | None = None, canvas: str = "file"
) -> None:
    """Dense MAC/s against dense MAC per DRAM byte for every product layer, under the roofs of the target.

    A point above the roof of the memory, drawn hollow, is a layer whose data stay on the chip. `path`: .png or .svg.
    `within`: ranges of the axes, those of this estimate alone by default. `canvas`: a key of `CANVASES`.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers, on = _products(estimate), CANVASES[canvas]
    found = roofs(layers, target, estimate.dtype)
    within = ranges([estimate], target) if within is None else within
    edges = within.intensity
    with _figure(path, (on.inches, max(5.5, 1.2 * on.inches) if not on.beside else 5.5), on) as (axes,):
        axes.set_xscale("log")
        axes.set_yscale("log")
        _draw_roofs(axes, found, edges)
        for bound, colour in BOUND_COLOURS.items():
            points = [layer for layer in layers if layer.bound == bound]
            for hollow in (False, True):
                reach = [
                    (x, y) for x, y in (reached(layer, target) for layer in points) if found.beyond(x, y) == hollow
                ]
                if reach:
                    x, y = zip(*reach, strict=True)
                    label = f"bound: {bound}" + (", data stay on the chip" if hollow else "")
                    face = "none" if hollow else colour
                    axes.scatter(x, [rate / 1e9 for rate in y], s=18, facecolor=face, edgecolor=colour, label=label)
        axes.set_xlim(edges)
        axes.set_ylim([rate / 1e9 for rate in within.rate])
        for axis in (axes.xaxis, axes.yaxis):  # powers of ten in plain digits: nothing here is read as a formula
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("dense MAC per DRAM byte")
        axes.set_ylabel("reached, GMAC/s (dense)")
        _entitle(axes, estimate, on)
        axes.grid(which="major", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        _legend(axes, on, "lower left", 2 if on.beside else 1)


def _entitle(axes: Any, estimate: Estimate, on: Canvas, panels: int = 1) -> None:
    if not on.themed:
        title = f"{shown(estimate.model)} on {estimate.target}, {' and '.join(estimate.dtypes)}, batch {estimate.batch}"
        axes.set_title(fill(title, on.title_length // panels), fontsize=on.points + 1)


def _legend(axes: Any, on: Canvas, corner: str, columns: int, panels: int = 1) -> None:
    """Outside of the axes, with labels no longer than there is room beside the legend of another panel."""
    handles, labels = axes.get_legend_handles_labels()
    broken = [fill(label, on.title_length // (2 * panels - 1)) for label in labels]
    axes.figure.legend(handles, broken, frameon=False, fontsize=on.points, loc=f"outside {corner}", ncols=columns)


def _draw_roofs(axes: Any, found: Roofs, edges: tuple[float, float]) -> None:
    """Every roof from edge to edge, and the slope of the memory up to the highest."""
    for roof, line in zip(found.compute, _styles(len(found.compute)), strict=True):
        ridge = edges[0] if found.bandwidth is None else roof.rate / found.bandwidth
        start = min(max(ridge, edges[0]), edges[1])
        axes.plot((start, edges[1]), (roof.rate / 1e9,) * 2, color=ROOF, linewidth=1.2, linestyle=line,
                  label=roof.label)  # fmt: skip
    if found.bandwidth is not None:
        end = min(max(found.highest / found.bandwidth, edges[0]), edges[1])
        xs = edges[0], end
        axes.plot(xs, [found.limit(x, found.highest) / 1e9 for x in xs], color=MEMORY, linewidth=1.2,
                  label=found.memory_label)  # fmt: skip


def _styles(count: int) -> list[str]:
    return [("-", "--", "-.", ":")[place % 4] for place in range(count)]


def write_layer_bars(
    estimate: Estimate, target: Target, path: Path, *, canvas: str = "file", within: Lengths | None = None
) -> None:
    """Latency of every layer, and where the target has an energy table its nominal energy by component beside it.

    Latency: what limits it, in its colour, then the fixed overhead. A stripe, in the colour of another, is the time
    that this one works too, and that would be left without the first. `within`: the longest bars, so that charts beside
    each other can be compared.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = estimate.layers
    spent = [layer.energy[1] for layer in layers if layer.energy is not None]
    by_component = len(spent) == len(layers) > 0 and not any(energy.from_tdp for energy in spent)
    on, count = CANVASES[canvas], 1 + by_component
    height = max(2.5, BAR_INCHES * len(layers) + 1.5) * (1 if on.beside else count)
    with _figure(path, (on.inches_of_two if by_component else on.inches, height), on, count) as panels:
        longest = lengths([estimate]) if within is None else within
        _latency_bars(panels[0], layers)
        _entitle(panels[0], estimate, on, count if on.beside else 1)
        panels[0].set_xlim(0, 1.03 * longest.ms or 1)
        if by_component:
            _energy_bars(panels[1], spent)
            panels[1].set_xlim(0, 1.03 * longest.uj or 1)
            panels[1].set_title(f"{sum(energy.total_uj for energy in spent) / 1e3:.4g} mJ", fontsize=on.points + 1)
        for number, panel in enumerate(panels):
            named = number == 0 or not on.beside
            names = [_short(layer.name, on.name_length) for layer in layers] if named else []
            panel.set_yticks(range(len(layers)) if named else [], names, fontsize=on.points)
            panel.set_ylim(max(len(layers), 1) - 0.25, -0.75)
            panel.locator_params(axis="x", nbins=5)
            _legend(panel, on, "lower left" if number == 0 else "lower right", 1 if number == 0 else 2, count)


def _latency_bars(axes: Any, layers: Sequence[LayerCost]) -> None:
    ends = [0.0] * len(layers)
    drawn: dict[tuple[Resource, Bound | None], list[tuple[int, float, float]]] = {}
    for row, layer in enumerate(layers):
        for part in layer.parts:
            drawn.setdefault((part.resource, part.beside), []).append((row, ends[row], part.ms))
            ends[row] += part.ms
    for (resource, beside), bars in drawn.items():
        rows, starts, widths = zip(*bars, strict=True)
        axes.barh(rows, widths, left=starts, color=PART_COLOURS[resource], height=0.75)
        if beside is not None:
            axes.barh(rows, widths, left=starts, color=PART_COLOURS[beside], height=STRIPE)
    used = {what for pair in drawn for what in pair}
    for resource, colour in PART_COLOURS.items():
        if resource in used:
            axes.barh([0], [0], color=colour, label=PART_NAMES[resource])
    if any(beside is not None for _, beside in drawn):
        axes.plot([], [], color=MEMORY, linewidth=2.5, label="stripe: works too")
    axes.set_xlabel("ms a layer")


def _energy_bars(axes: Any, spent: Sequence[Energy]) -> None:
    left = [0.0] * len(spent)
    for component, colour in ENERGY_COLOURS.items():
        part = [getattr(energy, component) for energy in spent]
        axes.barh(range(len(spent)), part, left=left, color=colour, height=0.75, label=component)
        left = [before + more for before, more in zip(left, part, strict=True)]
    axes.set_xlabel("uJ a layer, nominal")


def _short(name: str, length: int) -> str:
    name = shown(name)
    return name if len(name) <= length else f"...{name[-length:]}"


@contextmanager
def _figure(path: Path, inches: tuple[float, float], on: Canvas, panels: int = 1) -> Iterator[Any]:
    """The axes of a figure, saved to `path` at the end; drawn without pyplot's global state."""
    require_name(path, (".svg", ".png"), "a plot")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CrispError("Plots need matplotlib, which is not installed: pip install 'crisp-onnx[report]'.") from error
    plain = {"text.parse_math": False, "font.size": on.points}  # a dollar sign in a name is no formula
    with mpl.rc_context({**(style() if on.themed else {}), **plain}):  # type: ignore[dict-item]  # text keys are right
        figure = Figure(figsize=inches, layout="constrained")
        yield figure.subplots(*((1, panels) if on.beside else (panels, 1)), squeeze=False).flat
        if on.themed:
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            path.write_text(inline(drawn.getvalue(), path.stem, VARIABLES), encoding="utf-8")
            return
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise CrispError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error
