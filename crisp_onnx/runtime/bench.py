"""Compare a compressed model with its dense self or another file on this machine, whole and layer by layer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.hybrid_nodes import HybridNode, hybrid_nodes
from crisp_onnx.runtime.latency import Timing, interleave, summarize, timed_session
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.runtime.library import BODY, which_kernel
from crisp_onnx.runtime.parts import run_in_parts

log = logging.getLogger(__name__)
Run = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """One setting. `timing`: sides (against, model); its second ratio is the model's speed-up.

    `in_parts`: the model took its batch an image at a time, one on each of `threads` cores (see `run_in_parts`).
    `against_in_parts`: the other side did, because that was its faster way.
    """

    threads: int
    batch: int
    in_parts: bool
    against_in_parts: bool
    timing: Timing

    @property
    def speedup(self) -> float:
        return self.timing.ratios[1].median


@dataclass(frozen=True)
class LayerComparison:
    """One hybrid layer against its dense self, alone. `kernel`: the one that does most of it."""

    node: str
    kernel: str
    times: LayerTimes


@dataclass(frozen=True)
class Bench:
    """`against` is what the ratios refer to, in words. `layers` is empty unless they were asked for."""

    model: Path
    against: str
    comparisons: tuple[Comparison, ...]
    layers: tuple[LayerComparison, ...]

    @property
    def noisy(self) -> bool:
        """Whether some measurement cannot be told from the machine's other work."""
        return any(comparison.timing.noisy for comparison in self.comparisons)


def bench(
    model: Path,
    against: Path | None = None,
    *,
    threads: Sequence[int] = (1,),
    batch: Sequence[int] = (1,),
    per_layer: bool = False,
    budget_s: float = 3.0,
) -> Bench:
    """Measure `model` with the native kernels against `against` in stock ONNX Runtime (None: its own dense form).

    Runs alternate A B A B for about `budget_s` seconds a side and setting. A batch of several images is taken at once
    and in parts, and both are compared with the faster way of `against`. `per_layer` also times every hybrid layer
    alone, sparse and dense, at the first thread count and batch.

    Raises:
        CrispError: a file cannot be opened or run, or a count is below 1.
    """
    if min((*threads, *batch), default=0) < 1:
        raise CrispError("Threads and batch need at least one number each, all of them 1 or more.")
    comparisons: list[Comparison] = []
    with bar("measuring", len(threads) * len(batch)) as advance:
        for count in threads:
            for size in batch:
                comparisons += compare(model, against, threads=count, batch=size, budget_s=budget_s)
                advance(1)
    nodes = hybrid_nodes(model, batch=batch[0]) if per_layer else ()
    layers = []
    with bar("measuring layers", len(nodes)) as advance:
        for node in nodes:
            layers.append(_layer(node, threads[0]))
            advance(1)
    words = str(against) if against else "the same model, dense"
    return Bench(model, words, tuple(comparisons), tuple(layers))


def compare(
    model: Path, against: Path | None = None, *, threads: int, batch: int, budget_s: float = 3.0
) -> tuple[Comparison, ...]:
    """One setting, as `bench` measures it: the batch at once and, where it has several images, also in parts.

    Raises:
        CrispError: a file cannot be opened or run.
    """
    runs = [
        *_at_once(model, against, threads, batch),
        *(_in_parts(model, against, threads, batch) if batch > 1 else ()),
    ]
    try:
        times = interleave(runs, budget_s=budget_s)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(
            f"ONNX Runtime cannot run the models at batch {batch}: {str(error).splitlines()[0]}"
        ) from error
    best = int(np.argmin(np.median(times[:, ::2], axis=0)))
    return tuple(
        Comparison(threads, batch, way > 0, best > 0, summarize(times[:, [2 * best, 2 * way + 1]]))
        for way in range(len(runs) // 2)
    )


def _at_once(model: Path, against: Path | None, threads: int, batch: int) -> list[Run]:
    sides = timed_session(against or model, threads, native=False), timed_session(model, threads)
    return [partial(side.run, None, _feed(side, batch)) for side in sides]


def _in_parts(model: Path, against: Path | None, threads: int, batch: int) -> list[Run]:
    """None where a side fixes its batch."""
    sides = timed_session(against or model, 1, native=False), timed_session(model, 1)
    if any(isinstance(side.get_inputs()[0].shape[0], int) for side in sides):
        return []
    return [partial(run_in_parts, side, _feed(side, batch), workers=threads) for side in sides]


def _feed(side: ort.InferenceSession, batch: int) -> dict[str, npt.NDArray[np.float32]]:
    return {side.get_inputs()[0].name: _input(side, batch)}


def _input(side: ort.InferenceSession, batch: int) -> npt.NDArray[np.float32]:
    """Seeded standard normal values; an open batch counts as `batch`, any other open side as 224."""
    spec = side.get_inputs()[0]
    shape = [
        extent if isinstance(extent, int) else batch if axis == 0 else 224 for axis, extent in enumerate(spec.shape)
    ]
    if spec.type != "tensor(float)":
        raise CrispError(f"Input {spec.name} is {spec.type}; the comparison feeds float images only.")
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _layer(node: HybridNode, threads: int) -> LayerComparison:
    times = measure_layer(node.case, threads=threads)
    log.debug("%s: %.3f ms dense, %.3f ms sparse", node.name, times.dense_ms, times.hybrid_ms)
    return LayerComparison(node.name, which_kernel(node.case.pattern.vector_rows, node.positions) or BODY, times)
