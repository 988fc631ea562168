"""`compress`: the whole road, from a file and a list of classes to a smaller file with an honest report."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crisp_onnx.api.emit import emit, prove
from crisp_onnx.api.learn import learn, make_task
from crisp_onnx.api.prepare import find_classes, find_labels, find_preprocess, prepare
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.api.summarise import Outcome, summarise
from crisp_onnx.data import Source, open_images
from crisp_onnx.data.pairs import Pair
from crisp_onnx.errors import CrispError
from crisp_onnx.model import load, save
from crisp_onnx.recipe import Recipe, recipe_text
from crisp_onnx.report.schema import Report, to_json
from crisp_onnx.runtime.evaluate import compare_on, open_stock
from crisp_onnx.runtime.latency import measure_files

log = logging.getLogger(__name__)

MODEL, REPORT, RECIPE, PAGE = "model.onnx", "report.json", "recipe.yaml", "report.html"


def compress(recipe: Recipe, *, data: Iterable[Pair] | None = None, eval_data: Iterable[Pair] | None = None) -> Report:
    """Compress `recipe.model` for the recipe's classes and write model.onnx, report.json and recipe.yaml.

    Args:
        data, eval_data: (uint8 image, label) pairs, instead of the recipe's paths.

    Raises:
        CrispError: the input or an option is at fault; nothing is written then.
        VerificationFailed: the written model does not answer as the masked dense graph does; nothing is kept.
    """
    if (recipe.folder / MODEL).resolve() == recipe.model.resolve():
        raise CrispError(f"The result would overwrite {recipe.model}. Choose another folder with --output.")
    watch = Stopwatch()
    with watch("read"):
        preprocess = find_preprocess(recipe.preprocess, load(recipe.model))
        prepared = prepare(recipe.model, size=preprocess.size[0])
        sources: list[Source | None] = [data or recipe.data, eval_data or recipe.eval_data]
        labels = find_labels(recipe.labels, prepared, *sources)
        classes = find_classes(recipe.classes, labels, prepared.outputs)
        make_task(recipe, prepared, classes)
        images, judged = (
            None if source is None else open_images(source, classes, labels, preprocess) for source in sources
        )
    with _workshop(recipe.folder) as workshop:
        learned = learn(recipe, prepared, classes=classes, preprocess=preprocess, given=images, watch=watch)
        with watch("emit"):
            emitted = emit(learned.model, learned.plan, recipe, classes, prepared.source)
            written = workshop / MODEL
            bytes_written = save(emitted.model, written)
        with watch("prove"):
            equivalence = prove(emitted, written, judged or learned.held_out or learned.images)
        with watch("accuracy"):
            seen = judged or learned.held_out
            pair = (open_stock(recipe.model), open_stock(written))
            comparison = compare_on(pair, seen, classes.indices) if seen is not None else None
        with watch("latency"):
            timing = measure_files([recipe.model, written], prepared.source.input, size=preprocess.size[0])
        outcome = Outcome(
            recipe, prepared, classes, learned, emitted, equivalence, comparison, timing, bytes_written,
            evaluated=judged is not None,
        )  # fmt: skip
        report = summarise(outcome, watch.seconds)
        (workshop / REPORT).write_text(to_json(report), encoding="utf-8")
        (workshop / RECIPE).write_text(recipe_text(recipe), encoding="utf-8")
        _write_page(report, workshop / PAGE)
        _move_into_place(workshop, recipe.folder)
    return report


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed at the end whatever happens.

    Raises:
        CrispError: the target cannot be written, found out before the long stages; or the disk is full.
    """
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise PermissionError(13, "not a folder that can be written")
        workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    except OSError as error:
        raise CrispError(f"Cannot write to {folder}: {error.strerror}. Choose another folder with --output.") from error
    try:
        yield workshop
    except OSError as error:
        raise CrispError(f"Cannot write to {folder}: {error.strerror or error}. Free some space there.") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _move_into_place(workshop: Path, folder: Path) -> None:
    """Put every finished file into the folder, the model last; what an earlier run left beside them goes."""
    folder.mkdir(exist_ok=True)
    fresh = {file.name for file in workshop.iterdir()}
    for name in sorted(fresh, key=lambda name: (name == MODEL, name)):
        (workshop / name).replace(folder / name)
    for name in {MODEL + ".data", PAGE} - fresh:
        (folder / name).unlink(missing_ok=True)


def _write_page(report: Report, path: Path) -> None:
    """The HTML page, where the packages of the extra `report` are installed."""
    try:
        from crisp_onnx.report.page import page
    except ImportError:
        log.info("no report.html: install crisp-onnx[report] to get one")
        return
    path.write_text(page(report), encoding="utf-8")
