"""Compare a compressed model with its dense self or another file on this machine, whole and layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, TensorSpec
from crisp_onnx.model.bounded import require_bounded
from crisp_onnx.model.read import load, read_graph
from crisp_onnx.progress import bar
from crisp_onnx.runtime.latency import Timing, opened_run, seeded_input, summarize
from crisp_onnx.runtime.layer_bench import LayerBench, layers_alone
from crisp_onnx.runtime.native import scan_model
from crisp_onnx.runtime.opening import STOCK, runtime_text, session, timing_options
from crisp_onnx.runtime.parts import run_in_parts
from crisp_onnx.runtime.turns import Run, take_turns, timed


@dataclass(frozen=True)
class BenchSetting:
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
class Bench:
    """`against`: what the ratios refer to, in words. `runtime`, `against_runtime`: what each side ran in, in words.

    `layers`: None unless they were asked for.
    """

    model: Path
    runtime: str
    against: str
    against_runtime: str
    comparisons: tuple[BenchSetting, ...]
    layers: LayerBench | None


@dataclass(frozen=True)
class Side:
    """A file as it is opened for the comparison: `native` as in `session`, `input` as both sides of it agree."""

    path: Path
    native: bool | None
    input: TensorSpec


def bench(
    model: Path,
    against: Path | None = None,
    *,
    threads: Sequence[int] = (1,),
    batch: Sequence[int] = (),
    per_layer: bool = False,
    budget_s: float = 3.0,
) -> Bench:
    """Measure `model` against another file, each opened as `session` opens it, or against its own dense form (None).

    The sides take turns for about `budget_s` seconds each and setting (see `turns`). A batch of several images is taken
    at once and in parts, and both are compared with the faster way of `against`. No `batch` means the one that the
    models fix, or 1. `per_layer` also times every hybrid layer alone, at the first thread count and batch.

    Raises:
        CrispError: a file cannot be opened or run; the two take different inputs, or not these batches; a count is
            below 1 or over the machine's cores; or there is nothing to compare.
    """
    sides = _sides(model, against)
    sizes = tuple(batch) or (sides[1].input.shape[0] or 1,)
    _require(sides, threads, sizes)
    comparisons: list[BenchSetting] = []
    with bar("measuring", len(threads) * len(sizes)) as advance:
        for count in threads:
            for size in sizes:
                comparisons += _compare(sides, count, size, budget_s)
                advance(1)
    return Bench(
        model,
        runtime_text(model),
        str(against) if against else "the same model, dense",
        runtime_text(against) if against else STOCK,
        tuple(comparisons),
        layers_alone(model, threads=threads[0], batch=sizes[0]) if per_layer else None,
    )


def compare(
    model: Path, against: Path | None = None, *, threads: int, batch: int, budget_s: float = 3.0
) -> tuple[BenchSetting, ...]:
    """One setting, as `bench` measures it: the batch at once and, where it has several images, also in parts.

    Raises:
        CrispError: as `bench`.
    """
    sides = _sides(model, against)
    _require(sides, (threads,), (batch,))
    return _compare(sides, threads, batch, budget_s)


def _sides(model: Path, against: Path | None) -> tuple[Side, Side]:
    """The other side and the model's, of the same image shape."""
    proto = read_graph(model)
    if against is None and not scan_model(proto).hybrid_nodes:
        raise CrispError(f"{model} has no hybrid operators: it is its own dense self. Name another with --against.")
    shown = Model(proto, model, sha256="").input
    other = Model(read_graph(against), against, sha256="").input if against else shown
    image = _common_image(shown, other)
    if image is None:
        raise CrispError(
            f"{against} takes {_text(other)}, {model} takes {_text(shown)}: two models are compared on one image."
        )
    for path in filter(None, (model, against)):
        require_bounded(load(path))
    first, second = (replace(spec, shape=(*spec.shape[:1], *image)) for spec in (other, shown))
    return Side(against or model, None if against else False, first), Side(model, None, second)


def _common_image(one: TensorSpec, other: TensorSpec) -> tuple[int | None, ...] | None:
    """The sides behind the batch that both accept; None where there are none."""
    if one.dtype != other.dtype or len(one.shape) != len(other.shape) or not one.shape:
        return None
    pairs = list(zip(one.shape[1:], other.shape[1:], strict=True))
    if any(a is not None and b is not None and a != b for a, b in pairs):
        return None
    return tuple(b if a is None else a for a, b in pairs)


def _text(spec: TensorSpec) -> str:
    return f"{spec.dtype} {'x'.join('?' if side is None else str(side) for side in spec.shape)}"


def _require(sides: tuple[Side, Side], threads: Sequence[int], batch: Sequence[int]) -> None:
    cores = os.cpu_count() or 1
    if min((*threads, *batch), default=0) < 1 or not threads:
        raise CrispError("Threads and batch need at least one number each, all of them 1 or more.")
    if max(threads) > cores:
        raise CrispError(f"{max(threads)} threads would wait for the {cores} cores of this machine: ask for {cores}.")
    for side in sides:
        fixed = side.input.shape[0]
        wrong = [size for size in batch if fixed not in (None, size)]
        if wrong:
            raise CrispError(
                f"{side.path} fixes its batch at {fixed} and cannot take {wrong[0]}. Leave the batch out, or export "
                "the model with an open one."
            )


def _compare(sides: tuple[Side, Side], threads: int, batch: int, budget_s: float) -> tuple[BenchSetting, ...]:
    try:
        ways = _at_once(sides, threads, batch) + (_in_parts(sides, threads, batch) if batch > 1 else [])
        rounds = take_turns([timed(opening, threads=threads) for opening in ways], budget_s=budget_s)
    except CrispError:
        raise
    except MemoryError as error:
        raise CrispError(f"A batch of {batch} images does not fit into memory.") from error
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(
            f"ONNX Runtime cannot run the models at batch {batch}: {str(error).splitlines()[0]}"
        ) from error
    against = [np.median([np.median(turns[way]) for turns in rounds]) for way in range(0, len(ways), 2)]
    best = int(np.argmin(against))
    return tuple(
        BenchSetting(
            threads, batch, way > 0, best > 0, summarize([(turns[2 * best], turns[2 * way + 1]) for turns in rounds])
        )
        for way in range(len(ways) // 2)
    )


def _at_once(sides: tuple[Side, Side], threads: int, batch: int) -> list[Callable[[], Run]]:
    return [
        partial(opened_run, side.path, seeded_input(side.input, batch=batch), threads, native=side.native)
        for side in sides
    ]


def _in_parts(sides: tuple[Side, Side], threads: int, batch: int) -> list[Callable[[], Run]]:
    """None where a side fixes its batch."""
    if any(side.input.shape[0] is not None for side in sides):
        return []
    return [partial(_parts_run, side, threads, batch) for side in sides]


def _parts_run(side: Side, threads: int, batch: int) -> Run:
    opened = session(side.path, native=side.native, options=timing_options(1))
    return partial(run_in_parts, opened, {side.input.name: seeded_input(side.input, batch=batch)}, workers=threads)
