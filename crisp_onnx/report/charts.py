"""Charts of a report as inline SVG whose colours are the page's CSS variables, so that they follow its theme."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown
from crisp_onnx.report.inline_svg import INK, inline, style
from crisp_onnx.report.interval import wilson
from crisp_onnx.report.schema import Accuracy, Report, Segmentation
from crisp_onnx.report.wording import count_text

ROW_INCHES = 0.2


@dataclass(frozen=True)
class Form:
    """How a chart fills a page: `columns` panels beside each other; names no longer than `name_length`."""

    width_inches: float
    columns: int
    name_length: int
    joint: str


FORMS = {"wide": Form(9.2, 2, 32, " "), "narrow": Form(4.2, 1, 20, "\n")}
"""Of a screen, and of a telephone, on which the wide one would be too small to read."""

DENSE, SPARSE, PALE = "#0a0b03", "#0a0b04", "#0a0b05"
VARIABLES = {DENSE: "--dense", SPARSE: "--sparse", PALE: "--pale"}


def layer_chart(report: Report, form: str) -> str:
    """Per layer, two panels: the density of its weights, and its MACs before and after. `form`: a key of `FORMS`.

    Raises:
        CrispError: matplotlib is not installed.
    """
    layers, way = report.layers, FORMS[form]
    stacked = 2 // way.columns
    height = max(1.6, ROW_INCHES * len(layers) + 0.9) * stacked
    rows = range(len(layers))
    colours = [SPARSE if layer.decision == "sparse" else DENSE for layer in layers]
    with _figure(way, height, f"layers-{form}") as (figure, svg):
        density, macs = figure.subplots(stacked, way.columns).flat
        density.barh(rows, [100 * layer.density for layer in layers], color=colours, height=0.68)
        density.set_xlim(0, 100)
        density.set_xlabel("weights kept, %")
        macs.barh(rows, [layer.macs for layer in layers], color=PALE, height=0.68)
        macs.barh(rows, [layer.macs_executed for layer in layers], color=colours, height=0.68)
        macs.set_xlabel("MACs per image: all, and those executed")
        macs.locator_params(axis="x", nbins=5)
        macs.xaxis.set_major_formatter(lambda value, position: count_text(round(value)))
        for number, axes in enumerate((density, macs)):
            named = number % way.columns == 0
            axes.set_yticks(rows, [_short(layer.name, way.name_length) if named else "" for layer in layers])
            axes.set_ylim(max(len(layers), 1) - 0.4, -0.6)
            axes.grid(axis="x")
    return svg.getvalue()


def accuracy_chart(report: Report, form: str) -> str:
    """Accuracy of both models, or mean IoU, with 95 % intervals; an empty string where it was not measured.

    Raises:
        CrispError: matplotlib is not installed.
    """
    way = FORMS[form]
    bars, counted = _overlap_bars(report.segmentation) if report.segmentation else _accuracy_bars(report.accuracy)
    if not bars:
        return ""
    with _figure(way, 1.9, f"accuracy-{form}") as (figure, svg):
        axes = figure.subplots()
        for row, bar in enumerate(bars):
            ends = (100 * bar.low, 100 * bar.high)
            axes.barh(row, 100 * bar.share, color=bar.colour, height=0.62)
            axes.plot(ends, (row, row), color=INK, linewidth=1.6, solid_capstyle="butt")
            axes.plot(ends, (row, row), color=INK, linestyle="none", marker="|", markersize=7)
        axes.set_xlim(0, 100)
        axes.set_yticks(range(len(bars)), [f"{bar.model},{way.joint}{_outputs(bar.field)}" for bar in bars])
        axes.invert_yaxis()
        axes.set_xlabel(f"{counted};{way.joint}line: 95 % interval")
        axes.grid(axis="x")
    return svg.getvalue()


@dataclass(frozen=True)
class _Bar:
    """One share of one model, with its interval."""

    model: str
    field: str
    share: float
    low: float
    high: float
    colour: str


def _accuracy_bars(accuracy: Accuracy) -> tuple[list[_Bar], str]:
    if accuracy.source == "not measured":
        return [], ""
    bars = []
    for field in ("top1_restricted", "top1"):
        for model, score, colour in (("dense", accuracy.dense, DENSE), ("compressed", accuracy.compressed, SPARSE)):
            share = getattr(score, field)
            bars.append(_Bar(model, field, share, *wilson(round(share * accuracy.n), accuracy.n), colour))
    return bars, f"images answered rightly, % of {accuracy.n:,}"


def _overlap_bars(found: Segmentation) -> tuple[list[_Bar], str]:
    bars = []
    for field in ("mean_iou_restricted", "mean_iou"):
        for model, score, colour in (("dense", found.dense, DENSE), ("compressed", found.compressed, SPARSE)):
            interval = getattr(score, f"{field}_interval")
            bars.append(_Bar(model, field, getattr(score, field), interval.low, interval.high, colour))
    return bars, f"mean IoU of your classes, %, over {found.n:,} images"


@contextmanager
def _figure(form: Form, height: float, salt: str) -> Iterator[tuple[Any, io.StringIO]]:
    """A figure, drawn without pyplot's global state, and the stream that holds its SVG once the block is left."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CrispError(
            "its charts need matplotlib, which is not installed. Get it with: pip install 'crisp-onnx[report]'."
        ) from error
    svg = io.StringIO()
    with mpl.rc_context(rc={**style(), "svg.hashsalt": salt}):  # type: ignore[dict-item]  # text keys are right
        figure = Figure(figsize=(form.width_inches, height), layout="constrained")
        yield figure, svg
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg.write(inline(drawn.getvalue(), salt, VARIABLES))


def _outputs(field: str) -> str:
    return "your classes" if field.endswith("_restricted") else "all outputs"


def _short(name: str, length: int) -> str:
    name = shown(name)
    return name if len(name) <= length else f"...{name[3 - length :]}"
