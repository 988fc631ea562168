"""Run models over images in ONNX Runtime: accuracy on the user's classes, agreement, and the worst difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.opening import ONNX_WHATEVER_ITS_NAME, SLEEP_BETWEEN_RUNS
from crisp_onnx.task import Classification
from crisp_onnx.task.score import preferred

Floats = npt.NDArray[np.floating]
_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
Piece = tuple[npt.NDArray[np.float32], list[Floats]]
"""Images that were fed, and the outputs for them."""


@dataclass(frozen=True)
class Counts:
    """Right answers of one model over `n` images: over all its outputs, and among the user's classes alone."""

    right: int
    right_restricted: int
    n: int


@dataclass(frozen=True)
class Comparison:
    """`counts`: one entry a model. `agreement`: images on which both prefer the same class of the user's."""

    counts: tuple[Counts, Counts]
    agreement: int
    n: int


def open_stock(path: Path, *, threads: int = 0, optimised: bool = True) -> ort.InferenceSession:
    """A session without any library of ours; `threads` 0 takes all cores, `optimised` lets it rewrite the graph.

    Raises:
        CrispError: ONNX Runtime cannot load the file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*ONNX_WHATEVER_ITS_NAME)
    options.add_session_config_entry(*SLEEP_BETWEEN_RUNS)  # two models answer in turn, on the same cores
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from error


def outputs_of(session: ort.InferenceSession, inputs: npt.NDArray[np.float32], output: str) -> Floats:
    """That output as (n, columns); a session with a fixed batch is fed in pieces of it.

    One that leaves its batch open but does not run on several images is fed one by one.

    Raises:
        CrispError: ONNX Runtime cannot run the model on these inputs.
    """
    rows = [answers[0].reshape(len(fed), -1) for fed, answers in _run_in_pieces(session, inputs, [output])]
    return np.concatenate(rows)[: len(inputs)]


def maps_of(session: ort.InferenceSession, inputs: npt.NDArray[np.float32], output: str) -> Floats:
    """As `outputs_of`, in the output's own shape (n, ...).

    Raises:
        CrispError: ONNX Runtime cannot run the model on these inputs.
    """
    maps = [answers[0] for _, answers in _run_in_pieces(session, inputs, [output])]
    return np.concatenate(maps)[: len(inputs)]


def numbers_of(session: ort.InferenceSession, inputs: npt.NDArray[np.float32], outputs: Sequence[str]) -> list[Floats]:
    """All numbers of each of these outputs in one row; what a fixed batch is filled up with is answered too.

    Raises:
        CrispError: ONNX Runtime cannot run the model on these inputs.
    """
    pieces = [answers for _, answers in _run_in_pieces(session, inputs, outputs)]
    return [np.concatenate([answers[place].reshape(-1) for answers in pieces]) for place in range(len(outputs))]


def _run_in_pieces(
    session: ort.InferenceSession, inputs: npt.NDArray[np.float32], outputs: Sequence[str]
) -> list[Piece]:
    """As many images at a time as the file fixes, the last piece filled up with zeros, and the outputs for them."""
    spec = session.get_inputs()[0]
    fixed = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else None
    try:
        return list(_in_pieces(session, inputs, outputs, fixed or len(inputs)))
    except CrispError:
        if fixed is not None or len(inputs) < 2:
            raise
        return list(_in_pieces(session, inputs, outputs, 1))


def _in_pieces(
    session: ort.InferenceSession, inputs: npt.NDArray[np.float32], outputs: Sequence[str], size: int
) -> Iterator[Piece]:
    name, kind = session.get_inputs()[0].name, session.get_inputs()[0].type
    inputs = inputs.astype(_FLOATS.get(kind, inputs.dtype), copy=False)
    for start in range(0, len(inputs), size):
        piece = inputs[start : start + size]
        padded = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
        try:
            yield padded, session.run(list(outputs), {name: padded})
        except Exception as error:  # onnxruntime raises a type per error code, without a common base
            raise CrispError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error


def compare_on(
    sessions: tuple[ort.InferenceSession, ort.InferenceSession],
    tasks: tuple[Classification, Classification],
    images: Images,
    *,
    batch_size: int = 32,
) -> Comparison:
    """Run both models, each with its task, over all labelled images once."""
    right, restricted = np.zeros(2, int), np.zeros(2, int)
    agreement = 0
    with bar("accuracy", len(images)) as advance:
        for inputs, labels in images.batches(batch_size):
            if labels is None:
                raise CrispError(f"{images.source} has no labels, so accuracy cannot be measured on it.")
            found = [
                preferred(outputs_of(session, inputs, task.output), task)
                for session, task in zip(sessions, tasks, strict=True)
            ]
            right += [int((answers.all == labels).sum()) for answers in found]
            restricted += [int((answers.wanted == labels).sum()) for answers in found]
            agreement += int((found[0].wanted == found[1].wanted).sum())
            advance(len(inputs))
    n = len(images)
    first, second = (Counts(int(r), int(k), n) for r, k in zip(right, restricted, strict=True))
    return Comparison((first, second), agreement, n)


def worst_relative(first: Floats, second: Floats) -> float:
    """max |first - second| / max |first|; infinite when the shapes differ or a value is not finite."""
    if first.shape != second.shape or not np.isfinite(second).all():
        return float("inf")
    scale = float(np.abs(first).max(initial=0.0)) or 1.0
    return float(np.abs(first.astype(np.float64) - second).max(initial=0.0)) / scale


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
