"""What differs between the tasks on the road: how data are opened, what is refused, how two models are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.data import Classes, Images, InputForm, Labels, Source, open_images
from crisp_onnx.data.pixel_labels import IGNORED
from crisp_onnx.data.segmented import open_segmented, segmented_sources
from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe
from crisp_onnx.runtime.compare_pixels import PixelComparison, compare_pixels
from crisp_onnx.runtime.evaluate import Comparison, compare_on, maps_of, outputs_of
from crisp_onnx.task import CLASSIFICATION, SEGMENTATION

AnyComparison = Comparison | PixelComparison


@dataclass(frozen=True)
class Way:
    """`open`: a source's images for some classes of so many outputs. `naming`: the sources that may name outputs.

    `refusal`: why the task cannot be had with a recipe, a sentence or empty; `refusal_in`: in a precision;
    `refusal_of`: for some classes. `compare`: two models on labelled images.
    `answers`: of a session to some inputs, by an output, as the task reads them.
    """

    open: Callable[[Source, Classes, Labels | None, InputForm, int], Images]
    naming: Callable[..., tuple[Source | None, ...]]
    refusal: Callable[[Recipe, Source | None], str]
    refusal_in: Callable[[str], str]
    refusal_of: Callable[[Classes], str]
    compare: Callable[..., Any]
    answers: Callable[[ort.InferenceSession, npt.NDArray[np.float32], str], npt.NDArray[np.floating]]


def _open_classified(source: Source, classes: Classes, labels: Labels | None, form: InputForm, outputs: int) -> Images:
    return open_images(source, classes, labels, form, outputs)


def _all(*sources: Source | None) -> tuple[Source | None, ...]:
    return sources


def _archives(*sources: Source | None) -> tuple[Source | None, ...]:
    return tuple(segmented_sources(*sources))


def _not_segmented(recipe: Recipe, data: Source | None) -> str:
    together = f"--task {SEGMENTATION}"
    for option, given in (
        ("--bank", recipe.bank is not None),
        ("--head slice", recipe.head == "slice"),
    ):
        if given:
            return f"{option} is not possible with {together}. Leave it out."
    refused = _no_precision(recipe.precision)
    if refused:
        return refused
    if data is None:
        return (
            f"With {together}, images to learn from must be given with --data: none can be synthesised of many classes "
            "at once. They need no labels."
        )
    return ""


def _no_precision(precision: str) -> str:
    if precision == "fp32":
        return ""
    return (
        f"--precision {precision} is for classification alone: which layers keep float32 is decided by the answers to "
        f"whole images, and --task {SEGMENTATION} answers pixels. Leave --precision out: the result stays in float32."
    )


def _no_segments(classes: Classes) -> str:
    if len(classes) < 2:
        return (
            f"--task {SEGMENTATION} tells two classes or more apart, and the list has one. Name background too if it "
            "is a class of the model."
        )
    if IGNORED in classes.indices:
        return f"Pixels labelled {IGNORED} are ignored, so that output {IGNORED} cannot be one of the classes."
    return ""


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        CLASSIFICATION: Way(
            _open_classified,
            _all,
            lambda recipe, data: "",
            lambda precision: "",
            lambda classes: "",
            compare_on,
            outputs_of,
        ),
        SEGMENTATION: Way(
            open_segmented, _archives, _not_segmented, _no_precision, _no_segments, compare_pixels, maps_of
        ),
    }
)


def require_way(refusal: str) -> None:
    """Refuse for the reason given, if there is one.

    Raises:
        CrispError: there is.
    """
    if refusal:
        raise CrispError(refusal)
