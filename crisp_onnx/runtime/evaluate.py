"""Run models over images in ONNX Runtime: accuracy on the user's classes, agreement, and the worst difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.opening import SLEEP_BETWEEN_RUNS

Floats = npt.NDArray[np.floating]


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
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*SLEEP_BETWEEN_RUNS)  # two models answer in turn, on the same cores
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from error


def outputs_of(session: ort.InferenceSession, inputs: npt.NDArray[np.float32]) -> Floats:
    """The first output as (n, outputs); a session with a fixed batch is fed in pieces of it.

    One that leaves its batch open but does not run on several images is fed one by one.

    Raises:
        CrispError: ONNX Runtime cannot run the model on these inputs.
    """
    spec = session.get_inputs()[0]
    fixed = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else None
    try:
        return _in_pieces(session, inputs, fixed or len(inputs))
    except CrispError:
        if fixed is not None or len(inputs) < 2:
            raise
        return _in_pieces(session, inputs, 1)


def _in_pieces(session: ort.InferenceSession, inputs: npt.NDArray[np.float32], size: int) -> Floats:
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    rows = []
    for start in range(0, len(inputs), size):
        piece = inputs[start : start + size]
        padded = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
        try:
            answer = session.run([output], {name: padded})[0]
        except Exception as error:  # onnxruntime raises a type per error code, without a common base
            raise CrispError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error
        rows.append(answer.reshape(size, -1)[: len(piece)])
    return np.concatenate(rows)


def compare_on(
    sessions: tuple[ort.InferenceSession, ort.InferenceSession],
    images: Images,
    classes: Sequence[int],
    *,
    batch_size: int = 32,
) -> Comparison:
    """Run both models over all labelled images once. A model with as many outputs as classes has a sliced head."""
    chosen = np.asarray(classes)
    right, restricted = np.zeros(2, int), np.zeros(2, int)
    agreement = 0
    with bar("accuracy", len(images)) as advance:
        for inputs, labels in images.batches(batch_size):
            if labels is None:
                raise CrispError(f"{images.source} has no labels, so accuracy cannot be measured on it.")
            preferred = []
            for number, session in enumerate(sessions):
                scores = outputs_of(session, inputs)
                sliced = scores.shape[1] == len(chosen)
                among = chosen[(scores if sliced else scores[:, chosen]).argmax(1)]
                best = among if sliced else scores.argmax(1)
                right[number] += int((best == labels).sum())
                restricted[number] += int((among == labels).sum())
                preferred.append(among)
            agreement += int((preferred[0] == preferred[1]).sum())
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
