"""Plots of an estimate: the roofline of a target with the model's layers, and a stacked bar per layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crisp_onnx.cost import Estimate, LayerCost
from crisp_onnx.errors import CrispError
from crisp_onnx.lower import Target

BOUND_COLOURS = {"compute": "#2b6cb0", "onchip": "#b7791f", "dram": "#c53030", "overhead": "#718096"}
BAR_INCHES = 0.16
LABEL_LENGTH = 36


def write_roofline(estimate: Estimate, target: Target, path: Path) -> None:
    """Dense MAC/s against dense MAC per DRAM byte for every product layer, under the target's dense roof.

    Points above the roof are layers whose zeros are skipped. `path`: .png or .svg.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = [layer for layer in estimate.layers if layer.macs and layer.dram_bytes and layer.latency_ms]
    peak = float(target.peak_macs(estimate.dtype) * target.clock_hz) / 1e9
    with _figure(path, (8.0, 5.0)) as axes:
        axes.set_xscale("log")
        axes.set_yscale("log")
        intensity = [layer.macs / layer.dram_bytes for layer in layers] or [1.0]
        edges = min(intensity) / 2, max(intensity) * 2
        bandwidth = target.number(target.dram.read_bw)
        if bandwidth is not None:
            slope = float(bandwidth * target.clock_hz) / 1e9
            ridge = peak / slope
            xs = sorted({edges[0], min(max(ridge, edges[0]), edges[1]), edges[1]})
            axes.plot(xs, [min(peak, slope * x) for x in xs], color="#1a202c", linewidth=1.2, label="dense roof")
        else:
            axes.axhline(peak, color="#1a202c", linewidth=1.2, label="dense roof")
        for bound, colour in BOUND_COLOURS.items():
            points = [layer for layer in layers if layer.bound == bound]
            if points:
                x = [layer.macs / layer.dram_bytes for layer in points]
                y = [layer.macs / (layer.latency_ms / 1e3) / 1e9 for layer in points]
                axes.scatter(x, y, s=18, color=colour, label=f"bound: {bound}", alpha=0.8)
        axes.set_xlabel("dense MAC per DRAM byte")
        axes.set_ylabel("dense MAC/s reached, 1e9")
        axes.set_title(f"{estimate.model} on {estimate.target}, {estimate.dtype}, batch {estimate.batch}")
        axes.legend(frameon=False, fontsize=8)


def write_layer_bars(estimate: Estimate, target: Target, path: Path) -> None:
    """Latency of every layer: the limiting resource, coloured by which it is, and the fixed overhead on top of it.

    Raises:
        CrispError: matplotlib is missing, another suffix, or the file cannot be written.
    """
    layers = estimate.layers
    with _figure(path, (9.0, max(2.5, BAR_INCHES * len(layers) + 1.0))) as axes:
        names = [_short(layer.name) for layer in layers]
        work = [_work_ms(layer) for layer in layers]
        colours = [BOUND_COLOURS[_limit(layer)] for layer in layers]
        rows = range(len(layers))
        axes.barh(rows, work, color=colours, height=0.75)
        overhead = [layer.latency_ms - ms for layer, ms in zip(layers, work, strict=True)]
        axes.barh(rows, overhead, left=work, color=BOUND_COLOURS["overhead"], height=0.75)
        axes.set_yticks(rows, names, fontsize=6)
        axes.invert_yaxis()
        axes.margins(y=0.5 / max(len(layers), 1))
        axes.set_xlabel("ms a layer")
        axes.set_title(f"{estimate.model} on {estimate.target}: {estimate.as_is.latency_ms:.4g} ms")
        for bound, colour in BOUND_COLOURS.items():
            axes.barh([0], [0], color=colour, label=bound)
        axes.legend(frameon=False, fontsize=8)


def _work_ms(layer: LayerCost) -> float:
    return layer.latency_ms * (1 - layer.overhead_cycles / layer.latency_cycles) if layer.latency_cycles else 0.0


def _limit(layer: LayerCost) -> str:
    cycles = {"compute": layer.compute_cycles, "onchip": layer.onchip_cycles, "dram": layer.dram_cycles}
    return max(cycles, key=lambda name: cycles[name])


def _short(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else f"...{name[-LABEL_LENGTH:]}"


@contextmanager
def _figure(path: Path, inches: tuple[float, float]) -> Iterator[Any]:
    """The axes of a figure that is saved to `path` when the block is left, without pyplot's global state."""
    if path.suffix not in (".png", ".svg"):
        raise CrispError(f"Cannot plot to {path}: only .png and .svg are written. Change the suffix.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CrispError("Plots need matplotlib, which is not installed: pip install 'crisp-onnx[report]'.") from error
    figure = Figure(figsize=inches, layout="constrained")
    yield figure.subplots()
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise CrispError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.") from error
