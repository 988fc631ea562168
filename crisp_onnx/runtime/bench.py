"""Compare a compressed model with its dense self or another file on this machine, whole and layer by layer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.runtime.hybrid_nodes import HybridNode, hybrid_nodes
from crisp_onnx.runtime.latency import Timing, side_by_side, timed_session
from crisp_onnx.runtime.layer_times import LayerTimes, measure_layer
from crisp_onnx.runtime.library import BODY, which_kernel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """One setting. `timing`: sides (against, model); its second ratio is the model's speed-up."""

    threads: int
    batch: int
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

    Runs alternate A B A B for about `budget_s` seconds a side and setting. `per_layer` also times every hybrid layer
    alone, sparse and dense, at the first thread count and batch.

    Raises:
        CrispError: a file cannot be opened or run, or a count is below 1.
    """
    if min((*threads, *batch), default=0) < 1:
        raise CrispError("Threads and batch need at least one number each, all of them 1 or more.")
    comparisons = []
    with bar("measuring", len(threads) * len(batch)) as advance:
        for count in threads:
            sides = timed_session(against or model, count, native=False), timed_session(model, count)
            for size in batch:
                comparisons.append(Comparison(count, size, _compare(sides, size, budget_s)))
                advance(1)
    nodes = hybrid_nodes(model, batch=batch[0]) if per_layer else ()
    layers = []
    with bar("measuring layers", len(nodes)) as advance:
        for node in nodes:
            layers.append(_layer(node, threads[0]))
            advance(1)
    words = str(against) if against else "the same model, dense"
    return Bench(model, words, tuple(comparisons), tuple(layers))


def _compare(sides: tuple[ort.InferenceSession, ort.InferenceSession], batch: int, budget_s: float) -> Timing:
    feeds = [{side.get_inputs()[0].name: _input(side, batch)} for side in sides]
    try:
        return side_by_side(sides, feeds, budget_s=budget_s)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(
            f"ONNX Runtime cannot run the models at batch {batch}: {str(error).splitlines()[0]}"
        ) from error


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
