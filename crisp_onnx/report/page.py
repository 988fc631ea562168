"""`report.html`: one self-contained page with the tables and charts of a report; nothing is loaded from elsewhere."""

from __future__ import annotations

import html
from importlib import resources
from pathlib import PurePath
from string import Template

from crisp_onnx.reading import shown
from crisp_onnx.report.charts import accuracy_chart, layer_chart
from crisp_onnx.report.rows import Rows, before_after_rows, layer_rows, note_sentences
from crisp_onnx.report.schema import Report
from crisp_onnx.report.wording import NOT_MEASURED, share_text, size_text, slower

CLASSES_SHOWN = 20


def page(report: Report) -> str:
    """The whole page as HTML. Every text of the report is escaped.

    Raises:
        CrispError: matplotlib is not installed.
    """
    template = resources.files("crisp_onnx.report").joinpath("page.html").read_text(encoding="utf-8")
    count = len(report.classes)
    title = f"{PurePath(report.source.path).name} for {count} {'class' if count == 1 else 'classes'}"
    accuracy = accuracy_chart(report) or f"<p>{_text(NOT_MEASURED.capitalize())}: {_text(report.accuracy.reason)}</p>"
    return Template(template).substitute(
        title=_text(title),
        classes=_text(_classes(report)),
        tiles="".join(_tile(figure, meaning) for figure, meaning in _headlines(report)),
        before_after=_table(before_after_rows(report)),
        notes="".join(f"<li>{_text(sentence)}</li>" for sentence in note_sentences(report)),
        accuracy=accuracy,
        layer_chart=layer_chart(report),
        layers=_table(layer_rows(report)),
        details=_table(_details(report)),
    )


def _text(text: str) -> str:
    """Any text, ours or foreign, as it stands on the page."""
    return html.escape(shown(text))


def _headlines(report: Report) -> list[tuple[str, str]]:
    """The figures that a reader looks for first, each with its meaning."""
    file, accuracy, latency = report.file, report.accuracy, report.latency
    restricted = accuracy.compressed.top1_restricted
    before = accuracy.dense.top1_restricted
    headlines = [
        (size_text(file.bytes), f"file size, was {size_text(file.bytes_dense)}"),
        (share_text(report.macs.kept_ratio), "of the multiply-accumulates executed"),
        (
            share_text(restricted),
            "accuracy on your classes" + ("" if before is None else f", was {share_text(before)}"),
        ),
    ]
    if latency is None:
        headlines.append((NOT_MEASURED, "latency"))
    else:
        ratio = latency.ratio_median
        said = "as fast as the dense model on this host" + (": slower" if slower(ratio, latency.ratio_p90) else "")
        headlines.append((f"{ratio:.2f}x", said))
    return headlines


def _native_text(report: Report) -> str:
    worst = report.equivalence.native_worst_relative
    return "" if worst is None else f"; {worst:.1e} with the native kernels"


def _details(report: Report) -> Rows:
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.timings_s.items())
    cells = [
        ("source", report.source.path),
        ("SHA-256 of the source", report.source.sha256),
        (
            "same answers",
            f"worst relative difference {report.equivalence.worst_relative:.1e} between the written file and the "
            f"masked dense graph, on {report.equivalence.images} images{_native_text(report)}",
        ),
        ("file size", f"{report.file.bytes:,} bytes; by the format's formula {report.file.bytes_formula:,}"),
        *((f"budget: {b.name}", f"asked {b.asked:g}, reached {b.reached:.4g}") for b in report.budgets),
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
    return f'<div class="tile"><b>{_text(figure)}</b>{_text(meaning)}</div>'


def _table(rows: Rows) -> str:
    head = "".join(_cell("th", number, text, rows) for number, text in enumerate(rows.columns))
    body = "".join(
        f"<tr>{''.join(_cell('td', number, text, rows) for number, text in enumerate(cells))}</tr>\n"
        for cells in rows.cells
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if any(rows.columns) else ''}\n<tbody>{body}</tbody></table>"


def _cell(tag: str, number: int, text: str, rows: Rows) -> str:
    figure = ' class="figure"' if number in rows.right else ""
    return f"<{tag}{figure}>{_text(text)}</{tag}>"
