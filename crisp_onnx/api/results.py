"""The files of a run: their names, what is written to tell of the model, and their way into the output folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from crisp_onnx.api.workshop import move_into_place
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import weights_files
from crisp_onnx.model.write import WEIGHTS
from crisp_onnx.reading import reason
from crisp_onnx.recipe import Recipe, recipe_text
from crisp_onnx.report.page import page
from crisp_onnx.report.schema import Report, to_json
from crisp_onnx.task.overlap import Shown
from crisp_onnx.writing import synced

log = logging.getLogger(__name__)

MODEL, REPORT, RECIPE, PAGE = "model.onnx", "report.json", "recipe.yaml", "report.html"


def results_in(folder: Path) -> tuple[Path, ...]:
    """Every path in `folder` that a run writes or takes away."""
    names = (MODEL, MODEL + WEIGHTS, REPORT, RECIPE, PAGE)
    return (*(folder / name for name in names), *weights_files(folder / MODEL))


def deliver(tell: Callable[[], Report], recipe: Recipe, bench: Path, pictures: Sequence[Shown] = ()) -> Report:
    """Write what `tell` reports beside the finished model in `bench`, and move all of it to the recipe's folder.

    `pictures`: for the page.

    Raises:
        Defect: there is no report; the model stands in its place all the same.
        OSError: the disk is full; the folder holds what it held before.
    """
    try:
        report: Report | Exception = _write_about(tell(), recipe, bench, pictures)
    except OSError:
        raise
    except Exception as error:
        report = error
    _put_in_place(bench, recipe.folder)
    if isinstance(report, Exception):
        raise Defect(f"{MODEL} is written to {recipe.folder}, but not what tells of it: {reason(report)}.") from report
    return report


def _write_about(report: Report, recipe: Recipe, folder: Path, pictures: Sequence[Shown]) -> Report:
    """Everything that tells of the model; the report then names all files, and says where the page is left out."""
    (folder / RECIPE).write_text(recipe_text(recipe), encoding="utf-8")
    obstacle = _write_page(report, folder / PAGE, pictures)
    if obstacle:
        report = report.model_copy(update={"notes": (*report.notes, f"{PAGE} is left out: {obstacle}")})
    files = sorted({*(file.name for file in folder.iterdir() if file.is_file()), REPORT})
    report = report.model_copy(update={"files": tuple(files)})
    (folder / REPORT).write_text(to_json(report), encoding="utf-8")
    return report


def _put_in_place(bench: Path, folder: Path) -> None:
    """All files in one step; those of an older run that have no successor go. Ctrl-C waits, and says what stands."""
    for file in bench.iterdir():
        synced(file)
    stale = [path.name for path in results_in(folder)]
    try:
        move_into_place(bench, folder, last=MODEL, stale=stale)
        synced(folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f", but the result was finished and stands in {folder}") from None


def _write_page(report: Report, path: Path, pictures: Sequence[Shown]) -> str:
    """Draw the page; the reason, where that is not possible: a page is never worth the run that it tells of."""
    try:
        path.write_text(page(report, pictures), encoding="utf-8")
    except Exception as error:
        log.debug("no page:", exc_info=True)
        path.unlink(missing_ok=True)
        return str(error) if isinstance(error, CrispError) else f"it could not be drawn ({reason(error)})."
    return ""
