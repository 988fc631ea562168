"""The plot of a sweep: accuracy against MACs, bytes and measured time, each over the dense model's, with its front."""

from __future__ import annotations

import io
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.model import write_files
from crisp_onnx.report.exploration import COSTS, Exploration, front
from crisp_onnx.report.interval import wilson

SIZE_INCHES = (11.0, 4.2)
ONE_SHOT, TRAINED, FRONT = "#9aa5b1", "#1769aa", "#e08e2b"


def percent(share: float, _: int | None = None) -> str:
    """What stands at a tick: the share itself, never rounded to another one."""
    return f"{100 * share:.6g}%"


def write_front_plot(found: Exploration, path: Path) -> None:
    """Draw `found` to `path`, an SVG. Whiskers are 95 % Wilson intervals.

    Raises:
        CrispError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CrispError("Plots need matplotlib: pip install 'crisp-onnx[report]'.") from None
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (name, cost) in zip(panels, COSTS.items(), strict=True):
        for label, colour, trained in (("one-shot", ONE_SHOT, False), ("trained", TRAINED, True)):
            seen = [(c, p) for p in found.points if (p.epochs > 0) == trained and (c := cost(p)) is not None]
            if not seen:
                continue
            ranges = [wilson(round(point.accuracy * point.images), point.images) for _, point in seen]
            heights = [point.accuracy for _, point in seen]
            whiskers = [
                [max(height - low, 0.0) for height, (low, _) in zip(heights, ranges, strict=True)],
                [max(high - height, 0.0) for height, (_, high) in zip(heights, ranges, strict=True)],
            ]
            places = [place for place, _ in seen]
            axes.errorbar(places, heights, whiskers, fmt="o", ms=4, color=colour, elinewidth=0.6, label=label)
        edge = front(found.points, name)
        axes.plot([cost(point) for point in edge], [point.accuracy for point in edge], color=FRONT, lw=1.2, zorder=0)
        for point in found.points[:1]:
            axes.axhline(point.dense_accuracy, color="black", lw=0.6, ls="--")
        axes.set_xlabel(f"{name}, of the dense model's")
        axes.xaxis.set_major_formatter(percent)
        axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy over the classes (dashed: untouched)")
    panels[0].yaxis.set_major_formatter(percent)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    write_files({path: drawn.getvalue()})
