"""Tables for people: rich on a terminal; elsewhere plain text, one line a row, nothing cut."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from crisp_onnx.reading import shown
from crisp_onnx.report.rows import Rows, before_after_rows, layer_rows, note_sentences
from crisp_onnx.report.schema import Report

PLAIN_WIDTH = 10_000


def line(text: str) -> Text:
    """A line of any text, ours or foreign, that cannot steer a terminal: every view prints through this."""
    return Text(shown(text))


def lines(sentences: Iterable[str]) -> tuple[Text, ...]:
    """A line each."""
    return tuple(map(line, sentences))


def rows_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> Table:
    """A table of any rows, a cell per column; `None` is an empty cell. Columns in `right` hold figures.

    Title and cells are text as it stands: a layer named `[bold]` is printed so, and what does not print as escapes.
    """
    table = Table(title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    if title:
        table.title = Text(shown(title), no_wrap=True, overflow="ignore")  # it may be longer than the rows
    table.show_edge = table.pad_edge = False
    table.padding = (0, 1, 0, 0)
    for number, column in enumerate(columns):
        justify: JustifyMethod = "right" if number in right else "left"
        table.add_column(line(column), justify=justify, overflow="fold", no_wrap=number in right)
    for row in rows:
        table.add_row(*(line("" if cell is None else str(cell)) for cell in row))
    return table


def before_after(report: Report) -> Table:
    """The one before/after table: bytes, MACs, accuracy of both with intervals, latency of both."""
    return _table(before_after_rows(report))


def layer_table(report: Report) -> Table:
    """A row per weight layer."""
    return _table(layer_rows(report))


def notes(report: Report) -> RenderableType:
    """The report's notes, one a line."""
    return Group(*(line(f"- {sentence}") for sentence in note_sentences(report)))


def summary(report: Report, *, layers: bool = False) -> RenderableType:
    """What `compress` prints at its end: the before/after table, the layers if asked, the notes."""
    tables = (before_after(report), layer_table(report)) if layers else (before_after(report),)
    return Group(*(part for table in tables for part in (table, Text())), notes(report))


def show(*parts: RenderableType, file: TextIO | None = None) -> None:
    """Print to `file` (stdout by default): in colour and folded to its width on a terminal, plain elsewhere."""
    file = file or sys.stdout
    console = Console(file=file, highlight=False)
    if console.is_terminal:
        for part in parts:
            console.print(part)
        return
    # The encoding tells rich whether lines can be drawn or must be made of hyphens.
    page = io.TextIOWrapper(io.BytesIO(), encoding=getattr(file, "encoding", None) or "utf-8")
    plain = Console(file=page, highlight=False, color_system=None, width=PLAIN_WIDTH)
    for part in parts:
        with plain.capture() as capture:
            plain.print(part)
        file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _table(rows: Rows) -> Table:
    return rows_table(rows.title, rows.columns, rows.cells, right=sorted(rows.right))
