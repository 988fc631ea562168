"""`estimate --html` of several targets: the table of the terminal as a page, and what the rows do not say."""

from __future__ import annotations

from crisp_onnx.report.comparison_rows import comparison_rows, comparison_sentences
from crisp_onnx.report.findings import TargetComparison
from crisp_onnx.report.sheet import listed, sheet, table


def comparison_page(found: TargetComparison) -> str:
    """The page as HTML; every text is escaped, nothing is loaded from elsewhere."""
    rows = comparison_rows(found)
    return sheet(rows.title, table(rows) + listed(comparison_sentences(found)))
