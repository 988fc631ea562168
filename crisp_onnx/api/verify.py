"""`verify`: original and compressed file side by side in ONNX Runtime: accuracy, agreement, difference, size, speed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crisp_onnx.api.prepare import find_classes, find_labels, find_preprocess, prepare
from crisp_onnx.data import Classes, open_images
from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format import DOMAIN
from crisp_onnx.model import Model, load
from crisp_onnx.runtime.evaluate import Comparison, compare_on, open_stock, outputs_of, worst_relative
from crisp_onnx.runtime.latency import Timing, measure_files, seeded_input

SEEDED_IMAGES = 8


@dataclass(frozen=True)
class Verification:
    """`comparison` is None without images. `worst_relative`: of the user's logits, over max |original|, seeded inputs.

    `classes` is None where neither a list nor the compressed file's metadata names them; all outputs count then.
    """

    classes: Classes | None
    comparison: Comparison | None
    worst_relative: float
    bytes_original: int
    bytes_compressed: int
    timing: Timing
    notes: tuple[str, ...]


def verify(
    original: Path,
    compressed: Path,
    *,
    classes: Path | tuple[str | int, ...] | None = None,
    data: Path | None = None,
    labels: Path | None = None,
    preprocess: str | None = None,
) -> Verification:
    """Compare both files. Without `classes`, those that the compressed file was made for.

    Raises:
        CrispError: a file or an option is at fault.
        VerificationFailed: the compressed model answers with values that are not finite, or with another shape.
    """
    first, second = load(original), load(compressed)
    if first.input.shape != second.input.shape or first.input.dtype != second.input.dtype:
        raise VerificationFailed(
            f"{compressed} takes {second.input.shape} where {original} takes {first.input.shape}: it is another model."
        )
    way = find_preprocess(preprocess, first)
    prepared = prepare(original, size=way.size[0])
    known = find_labels(labels, prepared, data)
    chosen = (
        find_classes(classes, known, prepared.outputs) if classes is not None else _recorded(second, prepared.outputs)
    )
    if data is not None and chosen is None:
        raise CrispError(f"Say with --classes which classes to judge: {compressed} does not record any.")
    sessions = (open_stock(original), open_stock(compressed))
    answers = [outputs_of(session, seeded_input(first.input, batch=SEEDED_IMAGES)) for session in sessions]
    worst = _worst(answers[0], answers[1], chosen, compressed)
    comparison = None
    notes = list(filter(None, [way.assumed and way.assumed.capitalize() + "."]))
    if data is not None and chosen is not None:
        images = open_images(data, chosen, known, way)
        notes += images.left_out
        comparison = compare_on(sessions, images, chosen.indices)
    else:
        notes.append("Accuracy is not measured: no images were given. Pass --data.")
    timing = measure_files([original, compressed], first.input, size=way.size[0])
    notes += [timing.note] if timing.note else []
    return Verification(chosen, comparison, worst, first.file_bytes, second.file_bytes, timing, tuple(notes))


def _recorded(compressed: Model, outputs: int) -> Classes | None:
    """The classes in the compressed file's metadata; a help to the user, never needed to run the file."""
    try:
        table = json.loads(compressed.metadata.get(f"{DOMAIN}.classes", ""))
        found = Classes(tuple(int(index) for index in table), tuple(map(str, table.values())))
    except (ValueError, AttributeError):
        return None
    return found if max(found.indices) < outputs else None


def _worst(first: np.ndarray, second: np.ndarray, classes: Classes | None, path: Path) -> float:  # type: ignore[type-arg]
    if not np.isfinite(second).all():
        raise VerificationFailed(f"{path} answers with values that are not finite. Compress the model again.")
    if classes is not None:
        among = list(classes.indices)
        first = first[:, among]
        second = second if second.shape[1] == len(among) else second[:, among]
    if first.shape != second.shape:
        raise VerificationFailed(
            f"{path} has {second.shape[1]} outputs where the original has {first.shape[1]}. Name the classes with "
            "--classes if its head was sliced."
        )
    return worst_relative(first, second)
