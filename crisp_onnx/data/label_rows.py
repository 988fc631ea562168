"""Lines of a label file that carry the output's index in a column of their own: which column that is.

`index,name`, `name,index`, `3  dog`, `3: dog`, `n02119789 1 kit_fox`, with a header or without. Such lines may stand in
any order, so they are never numbered by their place.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from crisp_onnx.data.labels import SYNSET, Label, folded, is_index, label_of
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

SEPARATORS = ("\t", ",", ";", "|", ":", "=")
# What a header calls the column of the index.
INDEX_WORDS = frozenset(
    (
        *("index", "idx", "id", "no", "nr", "number", "output", "label", "class", "category", "target", "y", "key"),
        *("cls", "classid", "classindex", "classidx", "classnumber", "clsid", "clsidx", "labelid", "labelindex"),
        *("labelidx", "categoryid", "outputindex", "targetid", "trainid"),
    )
)
A_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
BEFORE = re.compile(r"[\[(]?(?P<index>\d{1,9})[\])]?[.:)]?\s+(?:[-=]+>?\s+)?(?P<rest>\S.*)")
BEHIND = re.compile(r"(?P<rest>.*\S)\s+[\[(]?(?P<index>\d{1,9})[\])]?")
BETWEEN = re.compile(rf"(?P<wnid>{SYNSET.pattern})\s+(?P<index>\d{{1,9}})\s+(?P<rest>\S.*)")
MOST, NEARLY_ALL, MIN_ROWS = 0.5, 0.8, 2
REMEDY = "Write `index<TAB>name` lines, or a JSON object of index to name."


@dataclass(frozen=True)
class _Row:
    """A line, its number from 1 on, and its cells."""

    number: int
    line: str
    cells: tuple[str, ...]

    def indexed(self, column: int) -> bool:
        return is_index(self.cells[column])


def numbered(lines: Sequence[str], path: Path) -> dict[int, Label] | None:
    """Labels by the index that each line carries; None where the lines carry none. Lines behind # are comments.

    Raises:
        CrispError: some lines carry an index and others do not, two carry the same, or it is not clear which number it
            is.
    """
    given = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    given = [(number, line) for number, line in given if line and not line.startswith("#")]
    if not given:
        return None
    for separator in SEPARATORS:
        rows = [_Row(number, line, _cells(line, separator)) for number, line in given]
        column = _column(rows, path, gaps=separator == "\t")
        if column is not None:
            body = rows if rows[0].indexed(column) else rows[1:]
            return _entries(body, [column] * len(body), path)
    return _spaced(given, path)


def _cells(line: str, separator: str) -> tuple[str, ...]:
    if len(line) > csv.field_size_limit():
        return (line,)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    if separator in ":=":  # the lines of a Python dict without its braces
        cells = [cell.rstrip(",").strip("'\"") for cell in cells]
    return tuple(cells)


def _column(rows: Sequence[_Row], path: Path, *, gaps: bool) -> int | None:
    """The column of the index, None where no column is. `gaps`: a first column alone may count as it likes."""
    body = rows[1:] or rows
    widths = {len(row.cells) for row in body}
    if min(widths) < 2:
        _refuse_mixed(rows, path, (0,) if max(widths) > 1 else ())
        return None
    width = min(*widths, len(rows[0].cells))
    columns = range(width) if len({*widths, len(rows[0].cells)}) == 1 else (0, -1)
    whole = [column for column in columns if all(row.indexed(column) for row in body)]
    whole = [c for c in whole if rows[0].indexed(c) or (len(rows) > 1 and not A_NUMBER.fullmatch(rows[0].cells[c]))]
    if not whole:
        _refuse_mixed(rows, path, columns)
        return None
    header = rows[0].cells
    called = [column for column in whole if _word(header[column]) in INDEX_WORDS]
    if len(called) == 1:
        return called[0]
    if len(body) < MIN_ROWS and body is not rows and not rows[0].indexed(whole[0]):
        return None
    values = {c: [int(row.cells[c]) for row in rows if row.indexed(c)] for c in whole}
    counting = [column for column in whole if sorted(values[column]) == list(range(len(values[column])))]
    if counting and all(values[column] == values[counting[0]] for column in counting):
        return counting[0]
    if len(whole) == 1 and (_counts(values[whole[0]]) or (gaps and whole[0] == 0)):
        return whole[0]
    if len(whole) == 1 and len(set(values[whole[0]])) < len(values[whole[0]]):
        told = [row for row in rows if row.indexed(whole[0])]
        _entries(told, [whole[0]] * len(told), path)  # says which line
    named = " and ".join(str(column + 1 if column >= 0 else "the last") for column in whole)
    raise CrispError(
        f"The lines of {shown(str(path))} hold whole numbers (column {named}), and it is not clear which of them, if "
        f"any, is the output's index. {REMEDY}"
    )


def _counts(values: Sequence[int]) -> bool:
    """Whether the numbers are 0 to n - 1 or 1 to n in any order, or rise from line to line."""
    rising = all(first < second for first, second in pairwise(values))
    return rising or sorted(values) in (list(range(len(values))), list(range(1, len(values) + 1)))


def _refuse_mixed(rows: Sequence[_Row], path: Path, columns: Sequence[int]) -> None:
    """Refuse lines of which most carry an index, and one that does not."""
    for column in columns:
        with_index = [row for row in rows if len(row.cells) > 1 and row.indexed(column)]
        if MOST * len(rows) < len(with_index):
            for row in rows:
                if len(row.cells) < 2 or not row.indexed(column):
                    raise CrispError(
                        f"{shown(str(path))}, line {row.number}: {shown(row.line)!r} has no output index where the "
                        "other lines have one. Correct the line."
                    )


def _spaced(given: Sequence[tuple[int, str]], path: Path) -> dict[int, Label] | None:
    """The same for lines whose columns are divided by spaces alone, where a number may be part of a name too."""
    if len(given) > 1 and not A_NUMBER.match(given[0][1]) and _word(given[0][1].split()[0]) in INDEX_WORDS:
        given = given[1:]
    for form in (BETWEEN, BEFORE, BEHIND):
        found = [form.fullmatch(line) for _, line in given]
        sound = [match for match in found if match is not None]
        values = [int(match["index"]) for match in sound]
        several = len({folded(match["rest"]) for match in sound}) > MOST * len(sound)
        plausible = several and max(values, default=0) < 2 * len(given)
        if len(sound) < len(given):
            if form is BEFORE and plausible and len(sound) >= NEARLY_ALL * len(given) and len(given) > 2:
                number, line = given[found.index(None)]
                raise CrispError(
                    f"{shown(str(path))}, line {number}: {shown(line)!r} does not begin with an output index as the "
                    "other lines do. Correct the line."
                )
            continue
        whole = sorted(values) in (list(range(len(values))), list(range(1, len(values) + 1)))
        if several and (whole or (form is not BEHIND and _counts(values))):
            cells = [tuple(filter(None, match.groups())) for match in sound]
            rows = [_Row(number, line, cell) for (number, line), cell in zip(given, cells, strict=True)]
            columns = [cell.index(match["index"]) for cell, match in zip(cells, sound, strict=True)]
            return _entries(rows, columns, path)
        if form is not BEHIND and plausible:
            raise CrispError(
                f"Every line of {shown(str(path))} holds a number before the name, but they are no output indices from "
                f"0 to {len(given) - 1}. {REMEDY}"
            )
    return None


def _entries(rows: Sequence[_Row], columns: Sequence[int], path: Path) -> dict[int, Label]:
    """A label of each row; its index stands in the column of the same place."""
    entries: dict[int, Label] = {}
    for row, column in zip(rows, columns, strict=True):
        index, where = int(row.cells[column]), f"{shown(str(path))}, line {row.number}"
        if index in entries:
            raise CrispError(f"{where}: output {index} is named a second time. Delete one of the lines.")
        rest = [cell for place, cell in enumerate(row.cells) if place != column % len(row.cells) and cell]
        if not rest:
            raise CrispError(f"{where}: output {index} has no name. Write one.")
        entries[index] = label_of(rest, row.line)
    return entries


def _word(cell: str) -> str:
    return "".join(letter for letter in cell.casefold() if letter.isalnum())
