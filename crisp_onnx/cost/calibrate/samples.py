"""Pair every profiled operator with the layer it belongs to: shapes, bytes and microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crisp_onnx.cost.calibrate.profile import Profile, TimedNode
from crisp_onnx.lowering import Target, lower
from crisp_onnx.lowering.layout import CONVERSION, LAYOUT, with_layout_changes
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.timing import weight_bytes
from crisp_onnx.model import Model
from crisp_onnx.runtime.profiled import RENAMED

CHANGES = {
    "ReorderInput": LAYOUT,
    "ReorderOutput": LAYOUT,
    "Transpose": LAYOUT,
    "QuantizeLinear": CONVERSION,
    "DequantizeLinear": CONVERSION,
}
"""What the runtime puts between operators that want other orders or types, by its own names."""


@dataclass(frozen=True)
class Sample:
    """One layer in one network and how long it took: 0 for what the runtime did without.

    `model_weight_bytes`: of the whole network.
    """

    network: str
    op: LoweredOp
    time_us: float
    model_weight_bytes: int


@dataclass(frozen=True)
class Measured:
    """The layers of one network in execution order, and ms of the whole run."""

    network: str
    samples: tuple[Sample, ...]
    whole_ms: float


def pair(model: Model, name: str, base: Target, found: Profile, *, granule: int) -> Measured:
    """Sum the profiled times by layer.

    `base`: a target that counts in the runtime's type and skips what the kernels skip; only its counting matters.
    `granule`: channels that the runtime groups.

    ONNX Runtime names a fused operator after one of its parts or after that part's output, with `fused` in front or
    `_nchwc` or a number behind. Its changes of layout and type are layers of their own where they are expected
    (`with_layout_changes`), and belong to the layer before them elsewhere.
    """
    operators = with_layout_changes(lower(model, base).operators, granule)
    outputs = {node.name: [tensor.name for tensor in node.outputs] for node in model.graph().nodes}
    owner = {
        name: index
        for index, op in enumerate(operators)
        for part in (op.name, *op.fused)
        for name in (part, *outputs.get(part, ()))
    }
    times = [0.0] * len(operators)
    last = 0
    for name_there, node in found.nodes.items():
        place = owner.get(RENAMED.sub("", name_there.removeprefix("fused ")))
        if place is None and node.op in CHANGES:
            place = _change_of(operators, times, last, node)
        else:
            last = place = last if place is None else place
        times[place] += node.time_us
    weights = weight_bytes(operators)
    samples = tuple(Sample(name, op, spent, weights) for op, spent in zip(operators, times, strict=True))
    return Measured(name, samples, found.whole_ms)


def _change_of(operators: Sequence[LoweredOp], times: Sequence[float], last: int, node: TimedNode) -> int:
    """The first expected change of this kind and size up to those behind `last` that has no time yet; or `last`.

    A transpose that the runtime made of one of the model's counts as that one.
    """
    for index, op in enumerate(operators[: last + 3]):
        alike = op.op in (CHANGES[node.op], node.op)
        if alike and not times[index] and op.output_bytes == node.output_bytes:
            return index
    return last
