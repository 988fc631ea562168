"""`verify`: original and compressed file side by side in ONNX Runtime: accuracy, agreement, difference, size, speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.api.class_order import Named
from crisp_onnx.api.int8_proof import require_agreement
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.ways import WAYS, AnyComparison, Way
from crisp_onnx.api.words import NameOptions, find_classes, find_form, find_labels
from crisp_onnx.data import Classes, InputForm, Labels
from crisp_onnx.data.folder_order import Order
from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format import DOMAIN, recount
from crisp_onnx.model import Model, load
from crisp_onnx.model.bounded import require_bounded
from crisp_onnx.report.findings import Verification
from crisp_onnx.report.overlap_entry import segmentation_entry
from crisp_onnx.report.schema import Segmentation
from crisp_onnx.runtime.evaluate import Comparison, Floats, open_stock, worst_relative
from crisp_onnx.runtime.int8_layers import int8_agreement
from crisp_onnx.runtime.latency import measure_files, seeded_input
from crisp_onnx.runtime.opening import runs_native, runtime_text
from crisp_onnx.task import CLASSIFICATION, Classification, Head, Stamp, read_stamp, task_of
from crisp_onnx.task.score import shares_of_wanted

SEEDED_IMAGES = 8


def verify(
    original: Path,
    compressed: Path,
    *,
    classes: Path | tuple[str | int, ...] | None = None,
    data: Path | None = None,
    labels: Path | None = None,
    labels_offset: int | None = None,
    class_order: Order | None = None,
    preprocess: str | None = None,
    output_name: str | None = None,
    task: str | None = None,
) -> Verification:
    """Compare both files. Without `classes`, those that the compressed file was made for.

    `labels`, `labels_offset`, `class_order`: names of the outputs, as for `compress`; without any of them, the names
    that the compressed file records. `output_name`: the output to compare, where the original has several. `task`:
    `classification` or `segmentation`; by default the one that the compressed file was made for.

    Raises:
        CrispError: a file or an option is at fault.
        VerificationFailed: the compressed file is damaged or does not run, answers with values that are not finite,
            or takes or gives tensors of another shape.
    """
    first, second = load(original), load(compressed)
    _check_pair(first, second)
    stamp = read_stamp(second.metadata)
    recorded_form = stamp.preprocess if stamp is not None else None
    form = find_form(preprocess if preprocess is not None else recorded_form, first, data)
    require_bounded(second, form.size)
    recorded = stamp.output if stamp and stamp.output in {spec.name for spec in first.outputs} else None
    kind = task or (CLASSIFICATION if stamp is None else stamp.task)
    way = WAYS[kind]
    prepared = prepare(first, size=form.size, output=output_name or recorded, task=kind)
    named = _named(stamp, prepared, form, NameOptions(labels, labels_offset, class_order), way, data)
    known = named.labels
    head = prepared.head
    chosen = find_classes(classes, known, head.classes) if classes is not None else _recorded(stamp, head)
    if data is not None and chosen is None:
        raise CrispError(_swapped(first, second) or _nothing_to_judge(stamp, head, original, compressed))
    seeded = seeded_input(first.input, batch=SEEDED_IMAGES, size=form.size)
    dense, hybrid = open_stock(original), _opened(compressed)
    expected, answers = way.answers(dense, seeded, head.output), _run(way, hybrid, seeded, head.output, compressed)
    columns = _columns(stamp, head, answers, compressed)
    meaning = task_of(head, columns if chosen is None else chosen.indices)
    tasks = (meaning, _on(columns, meaning, compressed))
    worst = worst_relative(*(shares_of_wanted(rows, of) for rows, of in zip((expected, answers), tasks, strict=True)))
    comparison, told = _judged(way, (dense, hybrid), tasks, data, chosen, known, form)
    assumed = form.assumed and form.assumed.capitalize() + "."
    notes = [*filter(None, [_swapped(first, second), assumed, *named.notes, _origin_note(first, second)]), *told]
    notes += _agreement_notes(compressed, seeded)
    timing = measure_files([original, compressed], first.input, size=form.size)
    notes += [timing.note] if timing.note else []
    sizes = (first.file_bytes, second.file_bytes)
    return Verification(chosen, comparison, worst, *sizes, timing, runtime_text(compressed), tuple(notes))


def _named(
    stamp: Stamp | None, prepared: Prepared, form: InputForm, names: NameOptions, way: Way, data: Path | None
) -> Named:
    """What the outputs are called: as the options say, or, without any, as the compressed file records."""
    if names == NameOptions() and stamp is not None and stamp.labels is not None:
        return Named(stamp.labels)
    return find_labels(prepared, form, names, *way.naming(data))


def _judged(
    way: Way,
    models: tuple[ort.InferenceSession, ort.InferenceSession],
    tasks: tuple[Classification, Classification],
    data: Path | None,
    chosen: Classes | None,
    known: Labels | None,
    form: InputForm,
) -> tuple[Comparison | Segmentation | None, tuple[str, ...]]:
    """Both models on the same labelled images, None where there are none, and what the user should know of them."""
    if data is None or chosen is None:
        return None, ("Accuracy is not measured: no images were given. Pass --data.",)
    images = way.open(data, chosen, known, form, len(tasks[0].columns))
    if not images.labelled:
        return None, (*images.told(), f"Accuracy is not measured: {images.source} has no labels.")
    found: AnyComparison = way.compare(models, tasks, images)
    told = tuple(images.told())
    if isinstance(found, Comparison):
        return found, told
    return segmentation_entry(found, chosen, "evaluation images", seed=0), told


def _check_pair(first: Model, second: Model) -> None:
    """Whether the compressed file is whole, and a form of the original at all."""
    if first.input.shape != second.input.shape or first.input.dtype != second.input.dtype:
        raise VerificationFailed(
            f"{second.path} takes {second.input.shape} where {first.path} takes {first.input.shape}: "
            "it is another model."
        )
    recount(second.graph())


def _swapped(first: Model, second: Model) -> str:
    """A sentence where the first file is a compressed one and the second is none."""
    one, other = (
        f"{DOMAIN}.source_sha256" in file.metadata or any(node.domain == DOMAIN for node in file.proto.graph.node)
        for file in (first, second)
    )
    if not one or other:
        return ""
    return (
        f"{first.path} says that it is compressed, and {second.path} does not: the two look swapped. The original "
        "comes first: `crisp-onnx verify ORIGINAL COMPRESSED`."
    )


def _origin_note(first: Model, second: Model) -> str:
    recorded = second.metadata.get(f"{DOMAIN}.source_sha256", first.sha256)
    same = recorded == first.sha256
    return "" if same else f"{second.path} was made from another file than {first.path}: the hashes differ."


def _opened(compressed: Path) -> ort.InferenceSession:
    try:
        return open_stock(compressed)
    except CrispError as error:
        raise VerificationFailed(f"{compressed} is damaged: {error}") from error


def _run(way: Way, session: ort.InferenceSession, inputs: npt.NDArray[np.float32], output: str, path: Path) -> Floats:
    try:
        answers = way.answers(session, inputs, output)
    except CrispError as error:
        raise VerificationFailed(f"{path} is damaged: {error}") from error
    if not np.isfinite(answers).all():
        raise VerificationFailed(f"{path} answers with values that are not finite. Compress the model again.")
    return answers


def _agreement_notes(path: Path, inputs: npt.NDArray[np.float32]) -> list[str]:
    """What the native kernels say of int8 layers against the function bodies, in which the file was compared.

    Raises:
        VerificationFailed: they do not give the same bytes.
    """
    found = int8_agreement(path, inputs) if runs_native(path) else ()
    if not found:
        return []
    require_agreement(found)
    equal = min(layer.equal for layer in found)
    return [
        f"In {len(found)} operators on bytes the native kernels give what the function bodies give: at least "
        f"{100 * equal:.2f} % of the bytes of each are equal, the others a step apart."
    ]


def _recorded(stamp: Stamp | None, head: Head) -> Classes | None:
    """The classes that the compressed file was made for, if they are classes of this model."""
    if stamp is None or max(stamp.classes) >= head.classes:
        return None
    return Classes(tuple(stamp.classes), tuple(stamp.classes.values()))


def _nothing_to_judge(stamp: Stamp | None, head: Head, original: Path, compressed: Path) -> str:
    if stamp is None:
        return f"Say with --classes which classes to judge: {compressed} does not record any."
    return (
        f"{compressed} was made for outputs up to {max(stamp.classes)} of its source, and {original} has "
        f"{head.classes}. Compare it with the model that it was made from, or name outputs with --classes."
    )


def _columns(stamp: Stamp | None, head: Head, answers: Floats, path: Path) -> tuple[int, ...]:
    """The class of each column of the compressed file's answers: as it records, or all in order."""
    width = task_of(head, ()).rows(answers).shape[1]
    columns = tuple(range(head.classes)) if stamp is None else stamp.columns
    if width != len(columns):
        raise VerificationFailed(
            f"{path} answers with {width} columns, "
            + (f"the original with {head.classes}, and does not record which classes they are."
               if stamp is None else f"but records {len(columns)}: it was changed.")
        )  # fmt: skip
    if max(columns) >= head.classes:
        raise VerificationFailed(f"{path} scores class {max(columns)}, and the original has {head.classes} classes.")
    return columns


def _on(columns: tuple[int, ...], task: Classification, path: Path) -> Classification:
    """The task of the compressed file."""
    missing = [index for index in task.wanted if index not in columns]
    if missing:
        raise CrispError(
            f"{path} has no column for class {missing[0]}: its head was cut down to the classes "
            f"{', '.join(map(str, columns))}. Name some of these with --classes."
        )
    return replace(task, columns=columns)
