"""`report.html`: one self-contained page with the tables and charts of a report; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import PurePath
from string import Template

from crisp_onnx.report.charts import FORMS, accuracy_chart, layer_chart
from crisp_onnx.report.rows import Rows, before_after_rows, layer_rows, note_sentences
from crisp_onnx.report.schema import Budget, Report
from crisp_onnx.report.sheet import escaped, table
from crisp_onnx.report.strip import strip
from crisp_onnx.report.wording import NOT_MEASURED, budget_texts, share_text, size_text, slower
from crisp_onnx.task.overlap import Shown

CLASSES_SHOWN = 20


def page(report: Report, pictures: Sequence[Shown] = ()) -> str:
    """The whole page as HTML, with a strip of the `pictures` of a segmentation. Every text of the report is escaped.

    Raises:
        CrispError: matplotlib is not installed.
    """
    template = resources.files("crisp_onnx.report").joinpath("page.html").read_text(encoding="utf-8")
    count = len(report.classes)
    title = f"{PurePath(report.source.path).name} for {count} {'class' if count == 1 else 'classes'}"
    accuracy = (
        _chart(accuracy_chart, report)
        or f"<p>{escaped(NOT_MEASURED.capitalize())}: {escaped(report.accuracy.reason)}</p>"
    )
    return Template(template).substitute(
        title=escaped(title),
        classes=escaped(_classes(report)),
        tiles="".join(_tile(figure, meaning) for figure, meaning in _headlines(report)),
        before_after=table(before_after_rows(report)),
        notes="".join(f"<li>{escaped(sentence)}</li>" for sentence in note_sentences(report)),
        accuracy=accuracy,
        pictures=strip(pictures, report.classes),
        layer_chart=_chart(layer_chart, report),
        layers=table(layer_rows(report)),
        details=table(_details(report)),
    )


def _headlines(report: Report) -> list[tuple[str, str]]:
    """The figures that a reader looks for first, each with its meaning."""
    file, accuracy, latency = report.file, report.accuracy, report.latency
    restricted, before, judged = accuracy.compressed.top1_restricted, accuracy.dense.top1_restricted, "accuracy"
    if report.segmentation is not None:
        scores = (report.segmentation.compressed, report.segmentation.dense)
        restricted, before = (score.mean_iou_restricted for score in scores)
        judged = "mean IoU"
    headlines = [
        (size_text(file.bytes), f"file size, was {size_text(file.bytes_dense)}"),
        (share_text(report.macs.kept_ratio), "of the multiply-accumulates executed"),
        (
            share_text(restricted),
            f"{judged} on your classes" + ("" if before is None else f", was {share_text(before)}"),
        ),
    ]
    if latency is None:
        headlines.append((NOT_MEASURED, "latency"))
    else:
        ratio = latency.ratio_median
        said = "as fast as the dense model on this host" + (": slower" if slower(ratio, latency.ratio_p90) else "")
        headlines.append((f"{ratio:.2f}x", said))
    return headlines


def _rounding_text(report: Report) -> str:
    stock, native = report.equivalence.worst_relative, report.equivalence.native_worst_relative
    return f"{stock:.1e}" + ("" if native is None else f" ({native:.1e} with the native kernels)")


def _details(report: Report) -> Rows:
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.timings_s.items())
    cells = [
        ("source", report.source.path),
        ("SHA-256 of the source", report.source.sha256),
        (
            "same answers",
            f"the written file and the pruned model in ordinary operators differ by {_rounding_text(report)} of the "
            f"largest answer, on {report.equivalence.images} images: rounding; more would have ended the run",
        ),
        ("file size", f"{report.file.bytes:,} bytes; by the format's formula {report.file.bytes_formula:,}"),
        *((f"budget: {b.name}", _budget_text(b)) for b in report.budgets),
        ("time", stages),
        ("peak memory", size_text(report.peak_memory_bytes)),
        ("seed", str(report.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    return Rows("The run", ("", ""), tuple(cells))


def _classes(report: Report) -> str:
    names = [f"{entry.name} ({entry.index})" for entry in report.classes[:CLASSES_SHOWN]]
    more = len(report.classes) - len(names)
    return "Classes, with their output: " + ", ".join(names) + (f" and {more} more" if more else "")


def _tile(figure: str, meaning: str) -> str:
    return f'<div class="tile"><b>{escaped(figure)}</b>{escaped(meaning)}</div>'


def _chart(draw: Callable[[Report, str], str], report: Report) -> str:
    """The chart for a wide page and that for a narrow one, of which the page shows the one that fits."""
    drawn = {form: draw(report, form) for form in FORMS}
    return "".join(f'<div class="{form}">{svg}</div>' for form, svg in drawn.items() if svg)


def _budget_text(budget: Budget) -> str:
    asked, reached = budget_texts(budget.asked, budget.reached)
    return f"asked {asked}, reached {reached}"
