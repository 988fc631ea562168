"""Run the rows of an accuracy table that are not there yet. See README.md.

python -m benchmarks.accuracy.run one_shot [--only set=0,sparsity=0.75] [--device cuda] [--again]
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import click
import numpy as np

from benchmarks.accuracy.cases import TABLES, Case
from benchmarks.real_data import CIFAR_PREPROCESS, CifarImages, class_set, data_folder
from benchmarks.record import record
from crisp_onnx import Recipe, compress
from crisp_onnx.report.interval import wilson

RESULTS = Path(__file__).parents[1] / "results"
Result = dict[str, float | int | None]


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
    classes = class_set(case.set) if cifar else synsets
    real = case.images == "real"
    with tempfile.TemporaryDirectory() as temporary:
        recipe = Recipe(
            model=folder / "models" / f"{case.model}.onnx", classes=classes, sparsity=case.sparsity,
            labels=None if cifar else folder / "imagenet_labels.txt", epochs=case.epochs, seed=case.seed,
            preprocess=CIFAR_PREPROCESS if cifar else "signed", saliency=case.saliency, reorder=case.reorder,
            reconstruct=case.reconstruct,
            recovery=case.recovery, target="portable", device=device, output=Path(temporary) / "out",
            data=None if cifar or not real else folder / "imagenette" / "train",
            eval_data=None if cifar else folder / "imagenette" / "val",
        )  # fmt: skip
        train, test = (
            CifarImages(folder, split, class_set(case.set)) if cifar else None for split in ("train", "test")
        )
        report = compress(recipe, data=train if real else None, eval_data=test)
    accuracy = report.accuracy
    fits = [layer.fit for layer in report.layers if layer.fit is not None and layer.decision == "sparse"]
    return {
        "n": accuracy.n,
        "untouched": round((accuracy.dense.top1_restricted or 0.0) * accuracy.n),
        "right": round((accuracy.compressed.top1_restricted or 0.0) * accuracy.n),
        "sparsity reached": report.sparsity.weights,
        "error before": median(fit.error_before for fit in fits) if fits else None,
        "error after": median(fit.error_after for fit in fits) if fits else None,
    }


def write(table: str, title: str, cases: list[Case], done: dict[str, Result]) -> None:
    """The table in the order of its rows, means over class sets where all of them are there, and the raw results."""
    rows = [row(case, done[case.key]) for case in cases if case.key in done]
    if not rows:
        return
    groups: dict[str, list[Result]] = {}
    for case in cases:
        if case.key in done:
            means = f"{case.model} {case.sparsity:.1%}, {case.saliency}, {case.images} images, {case.reconstruct}"
            groups.setdefault(means, []).append(done[case.key])
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
        notes=["2:4, block 16, V 8; logits restricted to the ten classes; 95 % Wilson intervals.", *below],
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
        "images": case.images,
        "reordered": case.reorder,
        "reconstruct": case.reconstruct,
        "epochs": case.epochs,
        "untouched": f"{found['untouched']} of {n}",
        "right": right,
        "%": f"{100 * right / n:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        "points below": round(_below(found), 1),
        "median error before": found["error before"],
        "after": found["error after"],
    }


def _below(found: Result) -> float:
    return 100 * ((found["untouched"] or 0) - (found["right"] or 0)) / (found["n"] or 1)


if __name__ == "__main__":
    main()
