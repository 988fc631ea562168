"""What each mode of recovery gives: `resnet18w32_cifar100`, ten of a hundred classes, equal epochs, images and budget.

    python -m benchmarks.recovery_modes [--set 0] [--epochs 20] [--sparsity 0.875] [--only fixed,cram] [--device cuda]

A row is one call of `compress`, judged on 1,000 test images with the logits restricted to the ten classes. Beside them
stand the dense model fine-tuned by the same recipe, and one nested training for three sparsities beside a training for
each. Rows that are there already are not run again, so that a command that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.ceiling import dense_by_the_same_recipe
from benchmarks.real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import RESULTS, card, record
from crisp_onnx import Recipe, Report, compress, compress_nested
from crisp_onnx.recipe import NESTED, RECOVERIES
from crisp_onnx.report.interval import wilson

LEVELS = (0.75, 0.875, 0.95)
FIRST = 5
DENSE = "dense"
Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """One training. `sparsity`: several for a nested one, none for the dense model."""

    mode: str
    set: int
    epochs: int
    sparsity: float | tuple[float, ...] | None
    first_finetune: int = 0

    @property
    def key(self) -> str:
        """All of it as text, which results are kept under."""
        return ", ".join(f"{name}={value}" for name, value in vars(self).items())


def cases(number: int, epochs: int, sparsity: float) -> Iterator[Case]:
    """The rows in the order of the table."""
    yield Case(DENSE, number, epochs, None)
    for mode in RECOVERIES:
        if mode != NESTED:
            yield Case(mode, number, epochs, sparsity)
    yield Case("fixed", number, epochs, sparsity, first_finetune=FIRST)
    yield Case(NESTED, number, epochs, LEVELS)
    yield from (Case("fixed", number, epochs, level) for level in LEVELS if level != sparsity)


def measured(case: Case, folder: Path, device: str) -> list[Row]:
    """A row for each model that the training gives."""
    classes = class_set(case.set)
    train, test = (CifarImages(folder, split, classes) for split in ("train", "test"))
    with tempfile.TemporaryDirectory() as temporary:
        dense = case.sparsity is None
        recipe = Recipe(
            model=folder / "models" / RESNET, classes=classes, preprocess=CIFAR_PREPROCESS, sparsity=case.sparsity,
            epochs=case.epochs, recovery="fixed" if dense else case.mode, first_finetune=case.first_finetune,
            target="portable", device=device, output=Path(temporary) / "out",
        )  # fmt: skip
        start = time.perf_counter()
        if dense:
            found, reports = dense_by_the_same_recipe(recipe, train, test), []
            spent = time.perf_counter() - start
            return [row(case, found.counts[1].right_restricted, found.n, None, spent)]
        reports = list(
            compress_nested(recipe, data=train, eval_data=test)
            if recipe.sparsities
            else (compress(recipe, data=train, eval_data=test),)
        )
        spent = time.perf_counter() - start
    return [row(case, *_counted(report), report.sparsity.weights, spent) for report in reports]


def _counted(report: Report) -> tuple[int, int]:
    n, score = report.accuracy.n, report.accuracy.compressed
    if score is None or score.top1_restricted is None:
        raise SystemExit(f"accuracy was not measured: {report.accuracy.reason}")
    return round(score.top1_restricted * n), n


def row(case: Case, right: int, n: int, sparsity: float | None, seconds: float) -> Row:
    """A line of the table."""
    low, high = wilson(right, n)
    name = case.mode if not case.first_finetune else f"{case.mode}, dense fine-tuned first for {case.first_finetune}"
    return {
        "mode": name,
        "sparsity": sparsity,
        f"right of {n:,}": right,
        "%": f"{100 * right / n:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        "seconds": round(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sparsity", type=float, default=0.875)
    parser.add_argument("--only", default="", help="modes, separated by commas")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    folder, name = data_folder(), f"recovery_modes_{options.epochs}_epochs"
    path = RESULTS / f"{name}.json"
    done: dict[str, list[Row]] = json.loads(path.read_text())["raw"] if path.exists() else {}
    every = list(cases(options.set, options.epochs, options.sparsity))
    wanted = options.only.split(",") if options.only else [case.mode for case in every]
    for case in every:
        if case.key in done or case.mode not in wanted:
            continue
        done[case.key] = measured(case, folder, options.device)
        print(case.key, done[case.key], flush=True)
        rows = [line for known in every for line in done.get(known.key, ())]
        notes = [
            f"{options.epochs} epochs, 256 images a class, a tenth held out; class set {options.set}, seed 0.",
            "2:4, block 16, V 8; logits restricted to the ten classes; 95 % Wilson intervals.",
            f"On {card(options.device) or 'the processor'}. A nested training's seconds are those of all its models.",
        ]
        record(name, "Modes of recovery, resnet18w32_cifar100, ten classes", rows, notes=notes, raw=done)


if __name__ == "__main__":
    main()
