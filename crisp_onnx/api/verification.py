"""`verify`: original and compressed file side by side in ONNX Runtime: accuracy, agreement, difference, size, speed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.words import find_classes, find_form, find_labels
from crisp_onnx.data import Classes, open_images
from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format import DOMAIN, recount
from crisp_onnx.model import Model, load
from crisp_onnx.report.findings import Verification
from crisp_onnx.runtime.evaluate import Floats, compare_on, open_stock, outputs_of, worst_relative
from crisp_onnx.runtime.latency import measure_files, seeded_input
from crisp_onnx.runtime.opening import runtime_text

SEEDED_IMAGES = 8


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
        VerificationFailed: the compressed file is damaged or does not run, answers with values that are not finite,
            or takes or gives tensors of another shape.
    """
    first, second = load(original), load(compressed)
    _check_pair(first, second)
    form = find_form(preprocess, first, data)
    prepared = prepare(original, size=form.size)
    known = find_labels(labels, prepared, data)
    chosen = (
        find_classes(classes, known, prepared.outputs) if classes is not None else _recorded(second, prepared.outputs)
    )
    if data is not None and chosen is None:
        raise CrispError(f"Say with --classes which classes to judge: {compressed} does not record any.")
    seeded = seeded_input(first.input, batch=SEEDED_IMAGES, size=form.size)
    dense = open_stock(original)
    expected = outputs_of(dense, seeded)
    hybrid, answers = _run(compressed, seeded)
    sessions = (dense, hybrid)
    worst = _worst(expected, answers, chosen, compressed)
    comparison = None
    notes = list(filter(None, [form.assumed and form.assumed.capitalize() + ".", _origin_note(first, second)]))
    if data is not None and chosen is not None:
        images = open_images(data, chosen, known, form)
        notes += images.told()
        if images.labels is None:
            notes.append(f"Accuracy is not measured: {images.source} has no labels.")
        else:
            comparison = compare_on(sessions, images, chosen.indices)
    else:
        notes.append("Accuracy is not measured: no images were given. Pass --data.")
    timing = measure_files([original, compressed], first.input, size=form.size)
    notes += [timing.note] if timing.note else []
    sizes = (first.file_bytes, second.file_bytes)
    return Verification(chosen, comparison, worst, *sizes, timing, runtime_text(compressed), tuple(notes))


def _check_pair(first: Model, second: Model) -> None:
    """Whether the compressed file is whole, and a form of the original at all."""
    if first.input.shape != second.input.shape or first.input.dtype != second.input.dtype:
        raise VerificationFailed(
            f"{second.path} takes {second.input.shape} where {first.path} takes {first.input.shape}: "
            "it is another model."
        )
    recount(second.graph())


def _origin_note(first: Model, second: Model) -> str:
    recorded = second.metadata.get(f"{DOMAIN}.source_sha256", first.sha256)
    same = recorded == first.sha256
    return "" if same else f"{second.path} was made from another file than {first.path}: the hashes differ."


def _run(compressed: Path, inputs: npt.NDArray[np.float32]) -> tuple[ort.InferenceSession, Floats]:
    try:
        session = open_stock(compressed)
        return session, outputs_of(session, inputs)
    except CrispError as error:
        raise VerificationFailed(f"{compressed} is damaged: {error}") from error


def _recorded(compressed: Model, outputs: int) -> Classes | None:
    """The classes in the compressed file's metadata; a help to the user, never needed to run the file."""
    try:
        table = json.loads(compressed.metadata.get(f"{DOMAIN}.classes", ""))
        found = Classes(tuple(int(index) for index in table), tuple(map(str, table.values())))
    except (ValueError, AttributeError, TypeError, CrispError):
        return None
    return found if min(found.indices) >= 0 and max(found.indices) < outputs else None


def _worst(first: np.ndarray, second: np.ndarray, classes: Classes | None, path: Path) -> float:
    if not np.isfinite(second).all():
        raise VerificationFailed(f"{path} answers with values that are not finite. Compress the model again.")
    if classes is not None:
        among = list(classes.indices)
        sliced = second.shape[1] == len(among)
        first = first[:, among]
        second = second if sliced or second.shape[1] <= max(among) else second[:, among]
    if first.shape != second.shape:
        raise VerificationFailed(
            f"{path} has {second.shape[1]} outputs where the original has {first.shape[1]}. Name the classes with "
            "--classes if its head was sliced."
        )
    return worst_relative(first, second)
