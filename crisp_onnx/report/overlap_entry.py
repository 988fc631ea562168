"""The report's entry of how two segmentation models do on the same images."""

from __future__ import annotations

from typing import Literal

from crisp_onnx.data import Classes
from crisp_onnx.report import schema
from crisp_onnx.runtime.compare_pixels import PixelComparison
from crisp_onnx.task.overlap import Overlap, Overlaps, interval


def segmentation_entry(
    found: PixelComparison,
    classes: Classes,
    source: Literal["evaluation images", "held-out training images"],
    *,
    seed: int,
) -> schema.Segmentation:
    """Scores with their intervals, dense first; `seed` draws the images of the intervals."""
    first, second = found.models
    shares = zip(classes.indices, classes.names, first.restricted.iou(), second.restricted.iou(), strict=True)
    return schema.Segmentation(
        dense=_score(first, seed),
        compressed=_score(second, seed),
        change=_interval(first.restricted, second.restricted, seed=seed),
        classes=tuple(schema.ClassOverlap(index=i, name=n, dense=a, compressed=b) for i, n, a, b in shares),
        n=found.n,
        pixels=found.pixels,
        judged=found.judged,
        ignored=found.ignored,
        agreement=found.agreement,
        source=source,
    )


def _score(model: Overlaps, seed: int) -> schema.OverlapScore:
    return schema.OverlapScore(
        mean_iou_restricted=model.restricted.mean_iou(),
        mean_iou_restricted_interval=_interval(model.restricted, seed=seed),
        mean_iou=model.all.mean_iou(),
        mean_iou_interval=_interval(model.all, seed=seed),
        pixel_accuracy_restricted=model.restricted.pixel_accuracy,
        pixel_accuracy=model.all.pixel_accuracy,
    )


def _interval(first: Overlap, second: Overlap | None = None, *, seed: int) -> schema.Interval:
    low, high = interval(first, second, seed=seed)
    return schema.Interval(low=low, high=high)
