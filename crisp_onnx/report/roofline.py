"""Plots of an estimate: the roofline of a target with the model's layers, and stacked bars per layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from crisp_onnx.cost import Estimate, LayerCost
from crisp_onnx.cost.energy import Energy
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Target
from crisp_onnx.reading import shown
from crisp_onnx.report.roofs import Roofs, reached, roofs
from crisp_onnx.writing import require_name

BOUND_COLOURS = {"compute": "#2b6cb0", "onchip": "#b7791f", "dram": "#c53030", "overhead": "#6b46c1"}
ENERGY_COLOURS = {
    "mac": "#2b6cb0",
    "lrf": "#63b3ed",
    "rf": "#38a169",
    "buffer": "#b7791f",
    "dram": "#c53030",
    "static": "#718096",
}
BAR_INCHES = 0.16
ROOM = 1.5
"""Of the axes beyond the roofs and the points, as a factor."""


@dataclass(frozen=True)
class Canvas:
    """`inches` of a roofline and of bars with one panel, and of bars with two, `beside` each other or below.

    Names are no longer than `name_length`, titles are broken after `title_length`; text of `points`.
    """

    inches: float
    inches_of_two: float
    beside: bool
    name_length: int
    title_length: int
    points: float


CANVASES = {
    "file": Canvas(9.0, 14.0, True, 36, 200, 8),
    "wide": Canvas(9.2, 9.2, True, 30, 90, 9),
    "narrow": Canvas(4.2, 4.2, False, 18, 32, 9),
}
"""Of a file of its own, of a page on a screen, and of a page on a telephone."""


@dataclass(frozen=True)
class Ranges:
    """Of the axes of a roofline: dense MACs a byte of memory, and dense MACs a second."""

    intensity: tuple[float, float]
    rate: tuple[float, float]


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
        types = " and ".join(estimate.dtypes)
        title = f"{shown(estimate.model)} on {estimate.target}, {types}, batch {estimate.batch}"
        axes.set_title(fill(title, on.title_length), fontsize=on.points + 1)
        axes.grid(which="major", color="#e2e8f0", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.figure.legend(frameon=False, fontsize=on.points, loc="outside lower left", ncols=2 if on.beside else 1)


def _draw_roofs(axes: Any, found: Roofs, edges: tuple[float, float]) -> None:
    """Every roof from edge to edge, and the slope of the memory up to the highest."""
    for roof, style in zip(found.compute, _styles(len(found.compute)), strict=True):
        ridge = edges[0] if found.bandwidth is None else roof.rate / found.bandwidth
        start = min(max(ridge, edges[0]), edges[1])
        axes.plot((start, edges[1]), (roof.rate / 1e9,) * 2, color="#1a202c", linewidth=1.2, linestyle=style,
                  label=roof.label)  # fmt: skip
    if found.bandwidth is not None:
        end = min(max(found.highest / found.bandwidth, edges[0]), edges[1])
        xs = edges[0], end
        axes.plot(xs, [found.limit(x, found.highest) / 1e9 for x in xs], color="#718096", linewidth=1.2,
                  label=found.memory_label)  # fmt: skip


def _styles(count: int) -> list[str]:
    return [("-", "--", "-.", ":")[place % 4] for place in range(count)]


def write_layer_bars(estimate: Estimate, target: Target, path: Path, *, canvas: str = "file") -> None:
    """Latency of every layer, and where the target has an energy table its nominal energy by component beside it.

    Latency: the limiting resource, coloured by which it is, and the fixed overhead on top of it.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = estimate.layers
    spent = [layer.energy[1] for layer in layers if layer.energy is not None]
    by_component = len(spent) == len(layers) > 0 and not any(energy.from_tdp for energy in spent)
    on, count = CANVASES[canvas], 1 + by_component
    height = max(2.5, BAR_INCHES * len(layers) + 1.5) * (1 if on.beside else count)
    with _figure(path, (on.inches_of_two if by_component else on.inches, height), on, count) as panels:
        axes = panels[0]
        _latency_bars(axes, layers)
        types = " and ".join(estimate.dtypes)
        title = f"{shown(estimate.model)} on {estimate.target}, {types}, batch {estimate.batch}"
        axes.set_title(fill(title, on.title_length // (count if on.beside else 1)), fontsize=on.points + 1)
        if by_component:
            _energy_bars(panels[1], spent)
            panels[1].set_title(f"{sum(energy.total_uj for energy in spent) / 1e3:.4g} mJ", fontsize=on.points + 1)
        for number, panel in enumerate(panels):
            named = number == 0 or not on.beside
            names = [_short(layer.name, on.name_length) for layer in layers] if named else []
            panel.set_yticks(range(len(layers)) if named else [], names, fontsize=on.points)
            panel.set_ylim(max(len(layers), 1) - 0.25, -0.75)
            panel.locator_params(axis="x", nbins=5)
            corner = "outside lower left" if number == 0 else "outside lower right"
            handles, labels = panel.get_legend_handles_labels()
            axes.figure.legend(handles, labels, frameon=False, fontsize=on.points, loc=corner, ncols=2)


def _latency_bars(axes: Any, layers: Sequence[LayerCost]) -> None:
    work = [_work_ms(layer) for layer in layers]
    rows = range(len(layers))
    axes.barh(rows, work, color=[BOUND_COLOURS[_limit(layer)] for layer in layers], height=0.75)
    overhead = [layer.latency_ms - ms for layer, ms in zip(layers, work, strict=True)]
    axes.barh(rows, overhead, left=work, color=BOUND_COLOURS["overhead"], height=0.75)
    axes.set_xlabel("ms a layer")
    for bound, colour in BOUND_COLOURS.items():
        axes.barh([0], [0], color=colour, label=bound)


def _energy_bars(axes: Any, spent: Sequence[Energy]) -> None:
    left = [0.0] * len(spent)
    for component, colour in ENERGY_COLOURS.items():
        part = [getattr(energy, component) for energy in spent]
        axes.barh(range(len(spent)), part, left=left, color=colour, height=0.75, label=component)
        left = [before + more for before, more in zip(left, part, strict=True)]
    axes.set_xlabel("uJ a layer, nominal")


def _work_ms(layer: LayerCost) -> float:
    return layer.latency_ms * (1 - layer.overhead_cycles / layer.latency_cycles) if layer.latency_cycles else 0.0


def _limit(layer: LayerCost) -> str:
    cycles = {"compute": layer.compute_cycles, "onchip": layer.onchip_cycles, "dram": layer.dram_cycles}
    return max(cycles, key=lambda name: cycles[name])


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
    with mpl.rc_context({"text.parse_math": False, "font.size": on.points}):  # a dollar sign in a name is no formula
        figure = Figure(figsize=inches, layout="constrained")
        yield figure.subplots(*((1, panels) if on.beside else (panels, 1)), squeeze=False).flat
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise CrispError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error
