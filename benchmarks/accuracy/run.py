"""Run the rows of an accuracy table that are not there yet. See README.md.

python -m benchmarks.accuracy.run one_shot [--only set=0,sparsity=0.75] [--device cuda] [--again]
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import numpy as np

from benchmarks.accuracy.cases import TABLES, Case
from benchmarks.real_data import CIFAR_PREPROCESS, CifarImages, class_set, data_folder
from benchmarks.record import record
from crisp_onnx import Recipe, compress
from crisp_onnx.api.prepare import prepare
from crisp_onnx.data import Classes, open_images, parse_preprocess
from crisp_onnx.model import load
from crisp_onnx.report.interval import wilson
from crisp_onnx.runtime.evaluate import compare_on, open_stock
from crisp_onnx.task import task_of

RESULTS = Path(__file__).parents[1] / "results"
Result = dict[str, float | int | None]
ALL, IMAGES_A_CLASS = 100, 256


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@click.option("--only", default="", metavar="KEY=VALUE,...", help="Rows that say all of these alone.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--again", is_flag=True, help="Measure rows anew that are there already.")
def main(table: str, only: str, device: str, again: bool) -> None:
    """Measure, print, and write table and raw results after every row."""
    title, rows = TABLES[table]
    path = RESULTS / f"accuracy_{table}.json"
    done: dict[str, Result] = {} if again or not path.exists() else json.loads(path.read_text())["raw"]
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    cases = list(rows())
    for case in cases:
        if case.key in done or not set(wanted) <= set(case.key.split(", ")):
            continue
        done[case.key] = measured(case, device)
        print(case.key, done[case.key], flush=True)
        write(table, title, cases, done)
    write(table, title, cases, done)


def measured(case: Case, device: str) -> Result:
    """One row: counts of right answers, what was reached and what it took."""
    folder, cifar = data_folder(), "cifar" in case.model
    synsets = tuple(sorted(path.name for path in (folder / "imagenette" / "val").iterdir()))
    user = class_set(case.set) if cifar else synsets
    learnt, share = (user, None) if case.learnt == "user" else (tuple(range(ALL)), IMAGES_A_CLASS * len(user) // ALL)
    real = case.images == "real"
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        options = {name: getattr(case, name) for name in Recipe.model_fields if name in vars(case)}
        recipe = Recipe(
            **(options | {"model": folder / "models" / f"{case.model}.onnx"}), classes=learnt,
            labels=None if cifar else folder / "imagenet_labels.txt",
            preprocess=CIFAR_PREPROCESS if cifar else "signed", target="portable", device=device,
            output=Path(temporary) / "out", data=None if cifar or not real else folder / "imagenette" / "train",
            eval_data=None if cifar else folder / "imagenette" / "val",
        )  # fmt: skip
        train = CifarImages(folder, "train", learnt, share) if cifar and real else None
        test = CifarImages(folder, "test", class_set(case.set)) if cifar else None
        report = compress(recipe, data=train, eval_data=test)
        took_s = time.monotonic() - start_s
        if case.learnt == "user":
            accuracy = report.accuracy
            n = accuracy.n
            rights = [round((score.top1_restricted or 0.0) * n) for score in (accuracy.dense, accuracy.compressed)]
        else:
            n, rights = counted(recipe.model, recipe.folder / "model.onnx", class_set(case.set), test)
    fits = [layer.fit for layer in report.layers if layer.fit is not None and layer.decision == "sparse"]
    return {
        "n": n,
        "untouched": rights[0],
        "right": rights[1],
        "sparsity reached": report.sparsity.weights,
        "error before": median(fit.error_before for fit in fits) if fits else None,
        "error after": median(fit.error_after for fit in fits) if fits else None,
        "seconds": round(took_s),
    }


def counted(dense: Path, compressed: Path, user: tuple[int, ...], test: CifarImages) -> tuple[int, list[int]]:
    """Images, and right answers of both files among the `user`'s classes."""
    source = load(dense)
    form = parse_preprocess(CIFAR_PREPROCESS, source.input)
    answers = task_of(prepare(source, size=form.size).head, user)
    images = open_images(test, Classes(user, tuple(map(str, user))), None, form)
    found = compare_on((open_stock(dense), open_stock(compressed)), (answers, answers), images)
    return found.n, [counts.right_restricted for counts in found.counts]


def write(table: str, title: str, cases: list[Case], done: dict[str, Result]) -> None:
    """The table in the order of its rows, means over class sets where all of them are there, and the raw results."""
    rows = [row(case, done[case.key]) for case in cases if case.key in done]
    if not rows:
        return
    groups: dict[str, list[Result]] = {}
    for case in cases:
        if case.key in done:
            groups.setdefault(replace(case, set=-1).key.replace("set=-1, ", ""), []).append(done[case.key])
    below = [
        f"{name}: {np.mean([_below(found) for found in results]):.1f} points below the untouched model, the mean."
        for name, results in groups.items()
        if len(results) > 2
    ]
    path = RESULTS / f"accuracy_{table}.json"
    record(
        path.stem,
        title,
        rows,
        notes=["Logits restricted to the ten classes; 95 % Wilson intervals. Errors are of a layer's outputs.", *below],
    )
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "raw": done}, indent=1) + "\n", encoding="utf-8")


def row(case: Case, found: Result) -> dict[str, object]:
    """A line of the table."""
    n, right = int(found["n"] or 0), int(found["right"] or 0)
    low, high = wilson(right, n)
    return {
        "model": case.model,
        "set": case.set,
        "sparsity": case.sparsity,
        "saliency": case.saliency,
        "allocation": case.allocation,
        "masks": case.masks if case.reconstruct != "none" else "saliency",
        "pattern": f"{case.pattern}, block {case.block}, V {case.vector_rows}",
        "images": case.images if case.learnt == "user" else "of all classes",
        "reordered": case.reorder,
        "reconstruct": case.reconstruct,
        "epochs": case.epochs,
        "untouched": f"{found['untouched']} of {n}",
        "right": right,
        "%": f"{100 * right / n:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        "points below": round(_below(found), 1),
        "median error before": found["error before"],
        "after": found["error after"],
        "seconds": found["seconds"],
    }


def _below(found: Result) -> float:
    return 100 * ((found["untouched"] or 0) - (found["right"] or 0)) / (found["n"] or 1)


if __name__ == "__main__":
    main()
