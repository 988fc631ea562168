"""The HTML page in a real browser: nothing is cut and nothing overflows, on a telephone as on a wide screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, Page, page
from small_models import residual_classifier

from crisp_onnx.api.hardware import estimate
from crisp_onnx.lowering import load_target
from crisp_onnx.report.estimate_page import estimate_page
from crisp_onnx.report.page import page as written
from crisp_onnx.report.schema import Report
from crisp_onnx.task.overlap import Shown

pytest.importorskip("matplotlib", reason="the page needs the extra [report]")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=MISSING)

WIDTHS = (390, 1280, 1920)
LONG = "/model/backbone/stages.3/blocks.17/pwconv_" + "x" * 120
# What sticks out of the window, or of the box around it, or holds more than it shows.
OVERFLOWING = """
[...document.querySelectorAll("body, body *")].filter(element => {
  const box = element.getBoundingClientRect();
  if (box.width === 0) return false;
  const around = element.parentElement.getBoundingClientRect();
  const out = box.left < -0.5 || box.right > innerWidth + 0.5 || box.right > around.right + 0.5;
  const svg = element.closest("svg") !== null && element.tagName !== "svg";
  return (out && !svg) || (box.right > innerWidth + 0.5) || (!svg && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== "inline");
}).map(element => element.tagName + ": " + (element.textContent || "").slice(0, 60))
"""
CELLS = """
[...document.querySelectorAll("td")].filter(cell => {
  const box = cell.getBoundingClientRect();
  return cell.textContent && (box.width === 0 || box.height === 0);
}).map(cell => cell.textContent)
"""
SMALLEST_TEXT = """
Math.min(...[...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width).map(svg =>
  9 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page() as opened:
        yield opened


def shows(tab: Page, report: Report, path: Path, width: int) -> Page:
    path.write_text(written(report), encoding="utf-8")
    tab.open(path.as_uri(), width)
    return tab


def with_long_names(report: Report) -> Report:
    def changed(entry: Any) -> Any:
        return entry.model_copy(
            update={"name": LONG, "dense_ms": 123.4567, "sparse_ms": 23.4567, "shape": (4096, 4096, 11, 11)}
        )

    return report.model_copy(
        update={
            "layers": tuple(map(changed, report.layers)),
            "classes": tuple(entry.model_copy(update={"name": LONG}) for entry in report.classes),
            "source": report.source.model_copy(update={"path": f"/data/{LONG}/{LONG}.onnx"}),
            "notes": (LONG, "A note of many words. " * 20),
        }
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("names", ["short", "long"])
def test_nothing_overflows_and_no_cell_is_hidden(
    tab: Page, report: Report, tmp_path: Path, width: int, names: str
) -> None:
    shows(tab, report if names == "short" else with_long_names(report), tmp_path / "report.html", width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.ask(OVERFLOWING) == []
    assert tab.ask(CELLS) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_can_be_read(tab: Page, report: Report, tmp_path: Path, width: int) -> None:
    shows(tab, report, tmp_path / "report.html", width)
    assert tab.ask(SMALLEST_TEXT) >= 9
    assert tab.ask("[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width).length") == 2


def pictures(side: int) -> tuple[Shown, ...]:
    random = np.random.default_rng(0)
    maps = [random.integers(0, 3, (side // 2, side // 2)) for _ in range(3)]
    image = random.integers(0, 256, (side, side, 3)).astype(np.uint8)
    return tuple(Shown(number, image, maps[0], (maps[1], maps[2])) for number in range(2))


@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_stand_beside_each_other_and_fit(tab: Page, report: Report, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(report, pictures(96)), encoding="utf-8")
    tab.open(path.as_uri(), width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.ask(OVERFLOWING) == []
    assert tab.ask("[...document.images].map(image => image.complete && image.naturalWidth > 0)") == [True] * 8
    tops = tab.ask("[...document.querySelectorAll('.pictures')[0].children].map(f => f.getBoundingClientRect().top)")
    assert len(set(tops)) == (2 if width == WIDTHS[0] else 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_charts_of_an_estimate_can_be_read(tab: Page, tmp_path: Path, width: int) -> None:
    model = residual_classifier(tmp_path / "small.onnx")
    found = estimate(model, "stc_edge_int8", against=model)
    path = tmp_path / "estimate.html"
    path.write_text(estimate_page(found, load_target("stc_edge_int8")), encoding="utf-8")
    tab.open(path.as_uri(), width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.ask(SMALLEST_TEXT) >= 9
    assert tab.ask("[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width).length") == 4
