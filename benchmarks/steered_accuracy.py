"""Accuracy of a model steered by a target's budget, beside one sparsity at the same estimated latency or energy.

    python benchmarks/steered_accuracy.py [--target stc_edge_int8] [--only sparsity=0.875,epochs=0] [--again]

A point's sparsity gives the threshold's model; what that is estimated to take is then the other run's whole budget.
Both have the target's pattern and today's defaults for all else: how layers share the budget by measured errors, masks,
least squares, recovery. Logits restricted to ten classes. Rows that are there already are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import RESULTS, record

from crisp_onnx import Recipe, compress
from crisp_onnx.api.hardware import estimate
from crisp_onnx.report.interval import wilson

MOBILENET = "mobilenetv1_imagenet.onnx"
Budget = Literal["latency_ms", "energy_mj"]
Run = dict[str, float]


@dataclass(frozen=True)
class Point:
    """`sparsity`: zeros in the layers that the threshold makes sparse. `classes`: which CIFAR class set."""

    model: str
    sparsity: float
    epochs: int = 0
    classes: int = 0
    budget: Budget = "latency_ms"

    @property
    def words(self) -> set[str]:
        return {f"{name}={value}" for name, value in asdict(self).items()}

    @property
    def key(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


POINTS = (
    Point(RESNET, 0.875),
    Point(RESNET, 0.75),
    Point(RESNET, 0.95),
    Point(MOBILENET, 0.7),
    Point(RESNET, 0.875, budget="energy_mj"),
    Point(RESNET, 0.875, classes=1),
    Point(RESNET, 0.875, classes=2),
    Point(RESNET, 0.875, epochs=5),
)


def run(folder: Path, point: Point, target: str, budget: Mapping[str, float]) -> Run:
    """What one compression comes to; `budget`: the option and its value."""
    cifar, start_s = point.model == RESNET, time.monotonic()
    synsets = tuple(sorted(path.name for path in (folder / "imagenette" / "val").iterdir()))
    pairs = [CifarImages(folder, split, class_set(point.classes)) if cifar else None for split in ("train", "test")]
    with tempfile.TemporaryDirectory() as temporary:
        recipe = Recipe(
            model=folder / "models" / point.model, output=Path(temporary) / "out", target=target, epochs=point.epochs,
            classes=class_set(point.classes) if cifar else synsets,
            labels=folder / ("cifar100_labels.txt" if cifar else "imagenet_labels.txt"),
            preprocess=CIFAR_PREPROCESS if cifar else "signed",
            data=None if cifar else folder / "imagenette" / "train",
            eval_data=None if cifar else folder / "imagenette" / "val",
            **budget,
        )  # fmt: skip
        report = compress(recipe, data=pairs[0], eval_data=pairs[1])
        found = estimate(recipe.folder / "model.onnx", target).estimate.as_is
    n = report.accuracy.n
    return {
        "latency_ms": found.latency_ms,
        "energy_mj": (found.nominal_uj or 0.0) / 1e3,
        "right": round((report.accuracy.compressed.top1_restricted or 0.0) * n),
        "untouched": round((report.accuracy.dense.top1_restricted or 0.0) * n),
        "n": n,
        "zeros": report.sparsity.weights,
        "sparse layers": sum(layer.decision == "sparse" for layer in report.layers),
        "seconds": round(time.monotonic() - start_s),
    }


def row(point: Point, threshold: Run, steered: Run) -> dict[str, object]:
    """A line of the table."""
    cifar = point.model == RESNET
    return {
        "model": Path(point.model).stem,
        "class set": point.classes if cifar else None,
        "threshold at": f"{point.sparsity:.1%} zeros",
        "epochs": point.epochs,
        "budget": point.budget,
        "threshold takes": threshold[point.budget],
        "steered takes": steered[point.budget],
        "untouched": f"{threshold['untouched']} of {threshold['n']}",
        "threshold": _right(threshold),
        "steered": _right(steered),
        "zeros in all weights": f"{threshold['zeros']:.1%}, {steered['zeros']:.1%}",
        "sparse layers": f"{threshold['sparse layers']}, {steered['sparse layers']}",
    }


def _right(found: Run) -> str:
    low, high = wilson(int(found["right"]), int(found["n"]))
    return f"{found['right']} ({100 * low:.1f}-{100 * high:.1f} %)"


def write(name: str, points: Sequence[Point], done: Mapping[str, Run]) -> None:
    """The rows that are there, in the order of the points, and every run."""
    pairs = [(point, *(done.get(key) for key in keys(point))) for point in points]
    rows = [row(point, plain, steered) for point, plain, steered in pairs if plain and steered]
    if rows:
        notes = [
            "Both in the target's pattern; the steered model may leave layers dense. Right answers with 95 % Wilson "
            "intervals, logits restricted to the classes. Where two numbers stand, the first is the threshold's.",
        ]
        record(f"steered_accuracy_{name}", f"Accuracy at equal estimated cost on {name}", rows, notes=notes, raw=done)


def keys(point: Point) -> tuple[str, str]:
    """Of the threshold's run, which knows no budget of the target's, and of the steered one."""
    return f"{Point(point.model, point.sparsity, point.epochs, point.classes).key}, threshold", point.key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="stc_edge_int8")
    parser.add_argument("--only", default="", metavar="KEY=VALUE,...", help="points that say all of these alone")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    options = parser.parse_args()
    folder, name = data_folder(), Path(options.target).stem
    kept = RESULTS / f"steered_accuracy_{name}.json"
    done: dict[str, Run] = json.loads(kept.read_text()).get("raw", {}) if kept.exists() else {}
    fresh: set[str] = set()
    wanted = {part.strip() for part in options.only.split(",") if part.strip()}
    for point in (point for point in POINTS if wanted <= point.words):
        plain, steered = keys(point)
        for key in (plain, steered):
            if key in done and (key in fresh or not options.again):
                continue
            budget = {"sparsity": point.sparsity} if key == plain else {point.budget: done[plain][point.budget]}
            done[key] = run(folder, point, options.target, budget)
            fresh.add(key)
            write(name, POINTS, done)
    write(name, POINTS, done)


if __name__ == "__main__":
    main()
