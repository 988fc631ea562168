"""Plots of an estimate: the roofline of a target with the model's layers, and stacked bars per layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crisp_onnx.cost import Estimate, LayerCost
from crisp_onnx.cost.energy import Energy
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Target
from crisp_onnx.reading import shown
from crisp_onnx.report.roofs import Roofs, reached, roofs
from crisp_onnx.writing import require_name

BOUND_COLOURS = {"compute": "#2b6cb0", "onchip": "#b7791f", "dram": "#c53030", "overhead": "#718096"}
ENERGY_COLOURS = {
    "mac": "#2b6cb0",
    "lrf": "#63b3ed",
    "rf": "#38a169",
    "buffer": "#b7791f",
    "dram": "#c53030",
    "static": "#718096",
}
BAR_INCHES = 0.16
LABEL_LENGTH = 36


def write_roofline(estimate: Estimate, target: Target, path: Path) -> None:
    """Dense MAC/s against dense MAC per DRAM byte for every product layer, under the roofs of the target.

    A point above the roof of the memory, drawn hollow, is a layer whose data stay on the chip. `path`: .png or .svg.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = [layer for layer in estimate.layers if layer.macs and layer.dram_bytes and layer.latency_ms]
    found = roofs(layers, target, estimate.dtype)
    with _figure(path, (9.0, 5.5)) as (axes,):
        axes.set_xscale("log")
        axes.set_yscale("log")
        intensity = [layer.macs / layer.dram_bytes for layer in layers] or [1.0]
        edges = min(intensity) / 2, max(intensity) * 2
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
        for axis in (axes.xaxis, axes.yaxis):  # powers of ten in plain digits: nothing here is read as a formula
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("dense MAC per DRAM byte")
        axes.set_ylabel("dense MAC/s reached, 1e9")
        axes.set_title(f"{shown(estimate.model)} on {estimate.target}, {estimate.dtype}, batch {estimate.batch}")
        axes.grid(which="major", color="#e2e8f0", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


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
                  label=f"memory roof, {found.bandwidth / 1e9:.4g} GB/s")  # fmt: skip


def _styles(count: int) -> list[str]:
    return [("-", "--", "-.", ":")[place % 4] for place in range(count)]


def write_layer_bars(estimate: Estimate, target: Target, path: Path) -> None:
    """Latency of every layer, and where the target has an energy table its nominal energy by component beside it.

    Latency: the limiting resource, coloured by which it is, and the fixed overhead on top of it.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = estimate.layers
    spent = [layer.energy[1] for layer in layers if layer.energy is not None]
    by_component = len(spent) == len(layers) > 0 and not any(energy.from_tdp for energy in spent)
    height = max(2.5, BAR_INCHES * len(layers) + 1.0)
    with _figure(path, (14.0 if by_component else 9.0, height), 1 + by_component) as panels:
        axes = panels[0]
        _latency_bars(axes, layers)
        axes.set_yticks(range(len(layers)), [_short(layer.name) for layer in layers], fontsize=6)
        axes.set_title(f"{shown(estimate.model)} on {estimate.target}: {estimate.as_is.latency_ms:.4g} ms")
        if by_component:
            _energy_bars(panels[1], spent)
            panels[1].set_title(f"{sum(energy.total_uj for energy in spent) / 1e3:.4g} mJ")
            panels[1].set_yticks([])
        for panel in panels:
            panel.set_ylim(max(len(layers), 1) - 0.25, -0.75)


def _latency_bars(axes: Any, layers: Sequence[LayerCost]) -> None:
    work = [_work_ms(layer) for layer in layers]
    rows = range(len(layers))
    axes.barh(rows, work, color=[BOUND_COLOURS[_limit(layer)] for layer in layers], height=0.75)
    overhead = [layer.latency_ms - ms for layer, ms in zip(layers, work, strict=True)]
    axes.barh(rows, overhead, left=work, color=BOUND_COLOURS["overhead"], height=0.75)
    axes.set_xlabel("ms a layer")
    for bound, colour in BOUND_COLOURS.items():
        axes.barh([0], [0], color=colour, label=bound)
    axes.legend(frameon=False, fontsize=8)


def _energy_bars(axes: Any, spent: Sequence[Energy]) -> None:
    left = [0.0] * len(spent)
    for component, colour in ENERGY_COLOURS.items():
        part = [getattr(energy, component) for energy in spent]
        axes.barh(range(len(spent)), part, left=left, color=colour, height=0.75, label=component)
        left = [before + more for before, more in zip(left, part, strict=True)]
    axes.set_xlabel("uJ a layer, nominal")
    axes.legend(frameon=False, fontsize=8)


def _work_ms(layer: LayerCost) -> float:
    return layer.latency_ms * (1 - layer.overhead_cycles / layer.latency_cycles) if layer.latency_cycles else 0.0


def _limit(layer: LayerCost) -> str:
    cycles = {"compute": layer.compute_cycles, "onchip": layer.onchip_cycles, "dram": layer.dram_cycles}
    return max(cycles, key=lambda name: cycles[name])


def _short(name: str) -> str:
    name = shown(name)
    return name if len(name) <= LABEL_LENGTH else f"...{name[-LABEL_LENGTH:]}"


@contextmanager
def _figure(path: Path, inches: tuple[float, float], panels: int = 1) -> Iterator[Any]:
    """The axes of a figure, side by side, that is saved to `path` at the end, without pyplot's global state."""
    require_name(path, (".svg", ".png"), "a plot")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CrispError("Plots need matplotlib, which is not installed: pip install 'crisp-onnx[report]'.") from error
    with mpl.rc_context({"text.parse_math": False}):  # a dollar sign in a name is no formula
        figure = Figure(figsize=inches, layout="constrained")
        yield figure.subplots(1, panels, squeeze=False)[0]
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise CrispError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error
