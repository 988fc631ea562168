"""A bar chart of a bench's layers, dense against sparse, as a file of its own."""

from __future__ import annotations

import io
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.model import write_files
from crisp_onnx.reading import shown
from crisp_onnx.report.bench_view import setting_text
from crisp_onnx.runtime.bench import Bench
from crisp_onnx.runtime.library import load_library
from crisp_onnx.writing import require_name, require_place

FORMATS = (".svg", ".png")
ROW_INCHES = 0.4
WIDTH_INCHES = 8.0


def require_plot(path: Path) -> None:
    """Refuse, before anything is measured, what could not be written afterwards.

    Raises:
        CrispError: the format is neither SVG nor PNG, the folder is missing or read-only, or matplotlib or the native
            kernels, without which no layer can be measured, are absent.
    """
    require_name(path, FORMATS, "a plot")
    require_place(path)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CrispError("Plots need matplotlib: pip install 'crisp-onnx[report]'.") from error
    if load_library().reason:
        raise CrispError(f"A plot shows the layers alone, which cannot be measured here. {load_library().reason}")


def write_layer_plot(found: Bench, path: Path) -> None:
    """Draw every layer's milliseconds, dense, and sparse with its layout conversions; SVG or PNG by the name of `path`.

    Raises:
        CrispError: no layers were measured, or the file cannot be written.
    """
    if found.layers is None or not found.layers.layers:
        raise CrispError("A plot shows the layers alone, and none was measured.")
    from matplotlib.figure import Figure

    verdicts = [layer.verdict for layer in found.layers.layers]
    sparse = [verdict.times.hybrid_ms for verdict in verdicts]
    figure = Figure(figsize=(WIDTH_INCHES, 1.6 + ROW_INCHES * len(verdicts)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(verdicts))
    upper, lower = [row - 0.2 for row in rows], [row + 0.2 for row in rows]
    axes.barh(upper, [verdict.times.dense_ms for verdict in verdicts], 0.38, color="#9aa5b1", label="dense")
    axes.barh(lower, sparse, 0.38, color="#1769aa", label="sparse")
    conversions = [verdict.sparse_ms - verdict.times.hybrid_ms for verdict in verdicts]
    if any(conversions):
        axes.barh(lower, conversions, 0.38, left=sparse, color="#e08e2b", label="layout conversions")
    for row, verdict in enumerate(verdicts):
        end = max(verdict.sparse_ms, verdict.times.dense_ms)
        axes.annotate(f"{verdict.speedup:.1f}x", (end, row), (4, 0), textcoords="offset points", va="center", size=8)
    names = [shown(layer.node) for layer in found.layers.layers]
    axes.set_yticks(list(rows), names, parse_math=False)  # a dollar sign in a name is no formula
    axes.set_ylim(len(verdicts) - 0.4, -0.6)
    axes.set_xlabel("milliseconds a call, the layer alone")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{shown(found.model.name)}, {setting_text(found.layers.threads, found.layers.batch)}"
    axes.set_title(title, loc="left", size=11, parse_math=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.lower()[1:], dpi=120)
    write_files({path: drawn.getvalue()})
