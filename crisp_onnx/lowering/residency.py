"""Which activations stay on the chip between the operator that writes them and the last that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crisp_onnx.lowering.memory import Stay
from crisp_onnx.lowering.target import Target

REARRANGING = frozenset(
    {
        "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Pad", "Resize", "SpaceToDepth", "Tile",
        "Transpose", "Upsample",
    }
)  # fmt: skip
"""Operators that put values elsewhere than where they read them, and so not into the place of what they read."""


@dataclass(frozen=True)
class Held:
    """One operator as the buffer sees it: bytes that it writes, of the smallest tile of its weights, and what it reads.

    `in_place`: its output may take the place of an input that nobody reads after it. `border_bytes`: what it reads of
    the model's own input. `answers`: whether the model gives its output, which then is needed to the end.
    """

    name: str
    output_bytes: int
    weight_tile_bytes: int
    reads: tuple[str, ...]
    in_place: bool
    border_bytes: int = 0
    answers: bool = False


def stays(operators: Sequence[Held], target: Target) -> Mapping[str, Stay]:
    """Where each operator's activations are. What the model takes and gives is always in DRAM.

    In execution order, an output stays if it has room beside everything that stayed before it, and beside a tile of
    weights, until its last reader has run.
    """
    place = {op.name: at for at, op in enumerate(operators)}
    readers: dict[str, int] = {}
    for at, op in enumerate(operators):
        readers.update((name, at) for name in op.reads if name in place)
    room = _room(target)
    occupied = [0] * len(operators)
    kept: set[str] = set()
    for at, op in enumerate(operators):
        last = readers.get(op.name)
        if room is None or last is None or last <= at or op.answers:
            continue
        shared = _shared(op, operators, place, readers, kept, at)
        need = {step: op.output_bytes - (shared if step == at else 0) for step in range(at, last + 1)}
        if all(occupied[step] + more + operators[step].weight_tile_bytes <= room for step, more in need.items()):
            kept.add(op.name)
            for step, more in need.items():
                occupied[step] += more
    return {
        op.name: Stay(
            read_bytes=sum(operators[place[name]].output_bytes for name in op.reads if name in kept),
            output=op.name in kept,
            occupied=occupied[at],
            inner_input=any(name in place for name in op.reads),
            inner_output=op.name in readers,
        )
        for at, op in enumerate(operators)
    }


def _room(target: Target) -> int | None:
    """Bytes of the buffer for activations; `None` where the target keeps none."""
    buffer = target.buffer
    if buffer is None or not buffer.keeps_activations:
        return None
    capacity = target.number(buffer.capacity)
    return None if capacity is None else int(capacity)


def _shared(
    op: Held,
    operators: Sequence[Held],
    place: Mapping[str, int],
    readers: Mapping[str, int],
    kept: set[str],
    at: int,
) -> int:
    """Bytes of an input on the chip that ends here and whose place the output takes."""
    if not op.in_place:
        return 0
    ending = [
        operators[place[name]].output_bytes
        for name in op.reads
        if name in kept and name in place and readers[name] == at
    ]
    return min(op.output_bytes, max(ending, default=0))


def peak_bytes(operators: Sequence[Held]) -> int:
    """Most bytes of activations alive at a time: what an operator reads, writes, and what others still need.

    The model's own input is alive until its last reader, answers to the end. Neither gives up its place.
    """
    end = len(operators)
    place = {op.name: at for at, op in enumerate(operators)}
    readers: dict[str, int] = {}
    for at, op in enumerate(operators):
        readers.update((name, at) for name in op.reads if name in place)
    readers.update((op.name, end) for op in operators if op.answers)
    given_until = max((at for at, op in enumerate(operators) if op.border_bytes), default=-1)
    given = max((op.border_bytes for op in operators), default=0)
    peak = alive = 0
    ending: dict[int, int] = {}  # bytes by the last step that needs them
    for at, op in enumerate(operators):
        alive -= ending.pop(at - 1, 0)
        shared = _shared(op, operators, place, readers, set(op.reads), at)
        alive += op.output_bytes
        last = max(at, readers.get(op.name, at))
        ending[last] = ending.get(last, 0) + op.output_bytes
        peak = max(peak, alive - shared + (given if at <= given_until else 0))
    return peak
