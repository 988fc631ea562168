"""docs/security.md names every limit by its constant; the numbers there are those of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
ROW = re.compile(r"^\| .+ \| ([\d,]+) [^|]+ \| `([\w.]+)\.(\w+)` \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("number", "module", "constant"), ROWS, ids=[f"{row[1]}.{row[2]}" for row in ROWS])
def test_the_limit_on_the_page_is_that_of_the_code(number: str, module: str, constant: str) -> None:
    assert getattr(importlib.import_module(f"crisp_onnx.{module}"), constant) == int(number.replace(",", ""))


def test_every_row_of_the_table_is_compared() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Limits")[2].partition("## How")[0]
    assert len(ROWS) == sum(line.startswith("| ") for line in table.splitlines()) - 1


def test_the_front_page_leads_to_it() -> None:
    assert "docs/security.md" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
