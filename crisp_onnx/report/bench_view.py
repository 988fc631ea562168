"""What a bench measured: tables for people, and a bar chart of the layers, dense against sparse."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from crisp_onnx.errors import CrispError
from crisp_onnx.report.table import rows_table
from crisp_onnx.runtime.bench import Bench, Comparison

FORMATS = (".svg", ".png")
ROW_INCHES = 0.2
WIDTH_INCHES = 8.0
MOST_NAMED = 3


def bench_view(found: Bench) -> tuple[RenderableType, ...]:
    """A row per setting, a row per layer where layers were measured, and what to make of noise."""
    several = any(comparison.batch > 1 for comparison in found.comparisons)
    settings = [
        (
            comparison.threads,
            comparison.batch,
            *((_ways(comparison),) if several else ()),
            *(f"{side.median:.2f}" for side in comparison.timing.sides_ms),
            f"{comparison.speedup:.2f}",
            f"{comparison.timing.ratios[1].p10:.2f} to {comparison.timing.ratios[1].p90:.2f}",
            comparison.timing.rounds,
        )
        for comparison in found.comparisons
    ]
    measured = ("against, ms", "model, ms", "times faster", "10th to 90th percentile", "rounds")
    columns = ("threads", "batch", *(("fed",) if several else ()), *measured)
    title = f"{found.model.name} against {found.against}"
    shown: list[RenderableType] = [rows_table(title, columns, settings, right=tuple(range(len(columns))))]
    if found.layers:
        layers = [
            (layer.node, layer.kernel, f"{layer.times.dense_ms:.3f}", f"{layer.times.hybrid_ms:.3f}",
             f"{layer.times.seam_ms:.3f}", f"{layer.times.speedup:.2f}")
            for layer in found.layers
        ]  # fmt: skip
        heads = ("layer", "kernel", "dense, ms", "sparse, ms", "conversions, ms", "times faster")
        shown += [Text(), rows_table("Layers alone", heads, layers, right=(2, 3, 4, 5)), Text(worst_layers(found))]
    shown += [Text(comparison.timing.note) for comparison in found.comparisons if comparison.timing.noisy]
    return tuple(shown)


def _ways(comparison: Comparison) -> str:
    """How the model took its batch, and the other side where that is another way."""
    model, against = (
        "in parts" if parts else "at once" for parts in (comparison.in_parts, comparison.against_in_parts)
    )
    return model if model == against else f"{model}, against {against}"


def worst_layers(found: Bench) -> str:
    """A sentence that names the layers which gain least."""
    ranked = sorted(found.layers, key=lambda layer: layer.times.speedup)[:MOST_NAMED]
    return "Least gained: " + ", ".join(f"{layer.node} ({layer.times.speedup:.2f})" for layer in ranked) + "."


def write_layer_plot(found: Bench, path: Path) -> None:
    """Bars of every layer's dense and sparse milliseconds, as SVG or PNG by the name of `path`.

    Raises:
        CrispError: layers were not measured, the format is neither, or matplotlib is not installed.
    """
    if not found.layers:
        raise CrispError("A plot shows the layers: measure them with --per-layer.")
    if path.suffix.lower() not in FORMATS:
        raise CrispError(f"{path} is neither .svg nor .png, the formats that a plot is written in.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CrispError("Plots need matplotlib: pip install 'crisp-onnx[report]'.") from error
    figure = Figure(figsize=(WIDTH_INCHES, 1.2 + 2 * ROW_INCHES * len(found.layers)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(found.layers))
    axes.barh([row - 0.2 for row in rows], [layer.times.dense_ms for layer in found.layers], 0.4, label="dense")
    axes.barh([row + 0.2 for row in rows], [layer.times.hybrid_ms for layer in found.layers], 0.4, label="sparse")
    axes.set_yticks(list(rows), [layer.node for layer in found.layers])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a call, the layer alone")
    axes.legend()
    figure.savefig(path)
