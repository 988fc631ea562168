"""What a sweep found: its points, which of them no other beats, and the table of those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.report.table import lines, rows_table
from crisp_onnx.report.views import View
from crisp_onnx.report.wording import milliseconds_text, share_text, size_text


@dataclass(frozen=True)
class Choice:
    """What a sweep varies. `sparsity`: zeros over the weights of the layers made sparse; `pattern`: N:M."""

    sparsity: float
    pattern: str
    block: int
    vector_rows: int

    @property
    def name(self) -> str:
        """A folder's name."""
        n, m = self.pattern.split(":")
        return f"{n}of{m}-block{self.block}-rows{self.vector_rows}-sparsity{self.sparsity:g}"


def folder_of(choice: Choice, epochs: int) -> str:
    """The folder of a point, as seen from the folder of the sweep."""
    return f"points/{choice.name}-epochs{epochs}"


@dataclass(frozen=True)
class Point:
    """One compressed model, as its own report measured it; `epochs` of training, 0 for none.

    `accuracy`: over the user's classes, on `images` images; `dense_accuracy`: of the untouched model on the same.
    `macs_ratio`: MACs executed over those of the dense model; `bytes_ratio`: bytes of the file over the dense file's.
    `latency_ms` and `time_ratio` (over the dense model's) are medians on the machine that measured, None where it
    could not.
    """

    choice: Choice
    epochs: int
    accuracy: float
    dense_accuracy: float
    images: int
    macs_ratio: float
    bytes: int
    bytes_ratio: float
    latency_ms: float | None
    time_ratio: float | None

    @property
    def folder(self) -> str:
        """Where its recipe stands, as seen from the folder of the sweep."""
        return folder_of(self.choice, self.epochs)


COSTS: dict[str, Callable[[Point], float | None]] = {
    "MACs": lambda point: point.macs_ratio,
    "bytes": lambda point: point.bytes_ratio,
    "time": lambda point: point.time_ratio,
}
"""What is set against accuracy, each over that of the dense model."""


@dataclass(frozen=True)
class Exploration:
    """All points of a sweep; `notes` say what was left out."""

    model: Path
    points: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> tuple[Point, ...]:
        """The points that stand on any of the three fronts, fewest MACs first."""
        ends = [point for cost in COSTS for point in front(self.points, cost)]
        return tuple(sorted(dict.fromkeys(ends), key=lambda point: (point.macs_ratio, point.accuracy)))


def front(points: Sequence[Point], cost: str) -> tuple[Point, ...]:
    """The points to which none is at once as accurate and as cheap, and better in one of both; cheapest first.

    Of equal points the first stays. Points whose cost was not measured are left out.
    """
    priced = [(value, point) for point in points if (value := COSTS[cost](point)) is not None]
    found: list[Point] = []
    for _, point in sorted(priced, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return tuple(found)


def exploration_view(found: Exploration) -> View:
    """A row for each point of a front."""
    rows = [
        (
            f"{100 * point.choice.sparsity:g} %",
            point.choice.pattern,
            f"{point.choice.block}, {point.choice.vector_rows}",
            point.epochs,
            share_text(point.accuracy, point.images),
            share_text(point.macs_ratio),
            size_text(point.bytes),
            "" if point.latency_ms is None else milliseconds_text(point.latency_ms),
            "" if not point.time_ratio else f"{1 / point.time_ratio:.2f}x",
            point.folder,
        )
        for point in found.best
    ]
    table = rows_table(
        f"{found.model.name}: {len(rows)} of {len(found.points)} points, which no other beats",
        ("zeros", "N:M", "block, rows", "epochs", "accuracy", "MACs", "bytes", "time", "as fast", "recipe in"),
        rows,
        right=(0, 3, 5, 6, 7, 8),
    )
    untouched = [f"Untouched model: {share_text(one.dense_accuracy, one.images)}." for one in found.points[:1]]
    return table, *lines([*untouched, *found.notes])
