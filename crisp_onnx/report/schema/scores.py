"""How good both models are on the same images: answers that are right, and overlaps of maps."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from crisp_onnx.report.schema.part import Count, Part, Positive, Share


class ClassEntry(Part):
    """One class of the user: its output index in the source model, and its name."""

    index: Count
    name: str


class Score(Part):
    """Shares of images answered rightly: over all outputs, and with the logits restricted to the user's classes."""

    top1: Share | None = None
    top1_restricted: Share | None = None


class Accuracy(Part):
    """Accuracy of both models on the same `n` images; all null with `n` 0 and a reason when not measured.

    `float32`: of the compressed network before it became int8; null where it did not.
    """

    dense: Score = Score()
    compressed: Score = Score()
    float32: Score = Score()
    n: Count = 0
    source: Literal["evaluation images", "held-out training images", "not measured"] = "not measured"
    reason: str = ""

    @model_validator(mode="after")
    def _measured_or_reason(self) -> Accuracy:
        figures = (*self.dense.model_dump().values(), *self.compressed.model_dump().values())
        if self.source == "not measured":
            if self.n or any(figure is not None for figure in figures):
                raise ValueError("accuracy that was not measured must be null, with n = 0")
            if not self.reason:
                raise ValueError("accuracy that was not measured needs a reason")
        elif not self.n or any(figure is None for figure in figures):
            raise ValueError("measured accuracy needs all four figures and n > 0")
        return self


class Interval(Part):
    """95 % interval: the percentile bootstrap over images."""

    low: float
    high: float


class OverlapScore(Part):
    """Mean intersection over union of the user's classes, over all images, and the share of their pixels that is right.

    `restricted`: the scores restricted to the user's classes, on pixels of these. Otherwise over all outputs, where
    pixels of other classes that are answered with one of the user's count in its union.
    """

    mean_iou_restricted: Share
    mean_iou_restricted_interval: Interval
    mean_iou: Share
    mean_iou_interval: Interval
    pixel_accuracy_restricted: Share
    pixel_accuracy: Share


class ClassOverlap(Part):
    """Intersection over union of one class, restricted; null where it is neither shown nor answered."""

    index: Count
    name: str
    dense: Share | None
    compressed: Share | None


class Segmentation(Part):
    """Both models on the same `n` images, pixel by pixel.

    `change`: 95 % interval of the restricted mean IoU of the compressed model less that of the dense one, on the same
    drawn images. Of all `pixels`, as many as the answers have, `judged` are of the user's classes and `ignored` are
    labelled 255; `agreement`: judged pixels to which both give one class of the user's.
    """

    dense: OverlapScore
    compressed: OverlapScore
    change: Interval
    classes: tuple[ClassOverlap, ...]
    n: Positive
    pixels: Positive
    judged: Count
    ignored: Count
    agreement: Count
    source: Literal["evaluation images", "held-out training images"]
