"""Measure one row of an accuracy table: counts of right answers, what was reached and what it took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from types import MappingProxyType

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.ceiling import dense_by_the_same_recipe
from benchmarks.accuracy.public_layout import blocks_as_in_public_code
from benchmarks.accuracy.static_pattern import static_pattern
from benchmarks.real_data import CIFAR_PREPROCESS, CifarImages, class_set, data_folder
from benchmarks.record import card
from crisp_onnx import Recipe, Report, compress
from crisp_onnx.api.prepare import prepare
from crisp_onnx.data import Classes, open_images, parse_preprocess
from crisp_onnx.model import load
from crisp_onnx.runtime.evaluate import Comparison, compare_on, open_stock
from crisp_onnx.task import task_of

Result = dict[str, float | int | str | None]
ALL, IMAGES_A_CLASS = 100, 256
LAYOUTS: Mapping[str, Callable[[Path], AbstractContextManager[None]]] = MappingProxyType(
    {
        "format": lambda model: nullcontext(),
        "public code": blocks_as_in_public_code,
        "static pattern": lambda model: static_pattern(),
    }
)


def measured(case: Case, device: str) -> Result:
    """The row's raw figures."""
    folder = data_folder()
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        recipe = recipe_of(case, folder, Path(temporary) / "out", device)
        train, test = images_of(case, folder)
        if case.is_ceiling:
            found = dense_by_the_same_recipe(recipe, train or recipe.data, test or recipe.eval_data)
            return _counts(found) | {"device": card(device), "seconds": round(time.monotonic() - start_s)}
        with LAYOUTS[case.layout](recipe.model):
            report = compress(recipe, data=train, eval_data=test)
        took_s = time.monotonic() - start_s
        counts = _reported(report) if case.learnt == "user" else _counts(_compared(recipe, case, test))
    fits = [layer.fit for layer in report.layers if layer.fit is not None and layer.decision == "sparse"]
    return counts | {
        "sparsity reached": report.sparsity.weights,
        "MACs left": report.macs.kept_ratio,
        "times as fast": None if report.latency is None else report.latency.ratio_median,
        "error before": median(fit.error_before for fit in fits) if fits else None,
        "error after": median(fit.error_after for fit in fits) if fits else None,
        "device": card(device),
        "seconds": round(took_s),
    }


def recipe_of(case: Case, folder: Path, output: Path, device: str) -> Recipe:
    """The recipe of a row; that of a ceiling names no sparsity."""
    cifar, options = _cifar(case), {name: getattr(case, name) for name in Recipe.model_fields if hasattr(case, name)}
    synsets = tuple(sorted(path.name for path in (folder / "imagenette" / "val").iterdir()))
    ours = class_set(case.set, case.drawn) if cifar else synsets
    images = None if cifar else folder / "imagenette"
    return Recipe(
        **options | {"model": folder / "models" / f"{case.model}.onnx", "sparsity": case.sparsity or None},
        classes=ours if case.learnt == "user" else tuple(range(ALL)),
        labels=None if cifar else folder / "imagenet_labels.txt",
        preprocess=CIFAR_PREPROCESS if cifar else "signed", target="portable", device=device, output=output,
        data=images / "train" if images and case.images == "real" else None,
        eval_data=images / "val" if images else None,
    )  # fmt: skip


def images_of(case: Case, folder: Path) -> tuple[CifarImages | None, CifarImages | None]:
    """CIFAR's images to learn from and to judge by; of Imagenette, the recipe names the folders."""
    if not _cifar(case):
        return None, None
    user = class_set(case.set, case.drawn)
    learnt, share = (user, None) if case.learnt == "user" else (tuple(range(ALL)), IMAGES_A_CLASS * len(user) // ALL)
    train = CifarImages(folder, "train", learnt, share) if case.images == "real" else None
    return train, CifarImages(folder, "test", user)


def _cifar(case: Case) -> bool:
    return "cifar" in case.model


def _reported(report: Report) -> Result:
    n = report.accuracy.n
    scores = (report.accuracy.dense, report.accuracy.compressed)
    untouched, right = (round((score.top1_restricted or 0.0) * n) for score in scores)
    return {"n": n, "untouched": untouched, "right": right}


def _counts(found: Comparison) -> Result:
    untouched, right = (counts.right_restricted for counts in found.counts)
    return {"n": found.n, "untouched": untouched, "right": right}


def _compared(recipe: Recipe, case: Case, test: CifarImages | None) -> Comparison:
    """Both files on the images of the user's classes, which are not those that were learnt from."""
    source, user = load(recipe.model), class_set(case.set, case.drawn)
    form = parse_preprocess(CIFAR_PREPROCESS, source.input)
    answers = task_of(prepare(source, size=form.size).head, user)
    images = open_images(test, Classes(user, tuple(map(str, user))), None, form)
    sessions = (open_stock(recipe.model), open_stock(recipe.folder / "model.onnx"))
    return compare_on(sessions, (answers, answers), images)
