"""Estimate a lowered model on its target, always beside the same model dense, n:m alone and blocks alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Literal

from crisp_onnx.cost.assumptions import leaned_on
from crisp_onnx.cost.energy import LEVELS, Energy, add, tdp_energy
from crisp_onnx.cost.fit import Fit, fit
from crisp_onnx.cost.layer import Bound, LayerCost, Link, cost_layer
from crisp_onnx.errors import CrispError
from crisp_onnx.format.operators import OPERATORS
from crisp_onnx.lowering.cycles import compute_cycles, over, overhead_cycles
from crisp_onnx.lowering.layer_sparsity import DENSE, LayerSparsity
from crisp_onnx.lowering.layers import lower_again, lower_elsewhere
from crisp_onnx.lowering.layout import runs_hybrid, with_layout_changes
from crisp_onnx.lowering.lowered import Lowered, LoweredOp
from crisp_onnx.lowering.quantised import plain_name
from crisp_onnx.lowering.schema import Dtype
from crisp_onnx.lowering.target import Leaf, Target
from crisp_onnx.lowering.timing import weight_bytes

VariantName = Literal["as_is", "dense", "nm_alone", "blocks_alone"]


@dataclass(frozen=True)
class Variant:
    """The whole model under one treatment of its sparsity. Energy is (low, nominal, high) or `None`."""

    name: VariantName
    latency_ms: float
    latency_cycles: float
    energy: tuple[Energy, Energy, Energy] | None
    dram_bytes: int
    stored_weight_bytes: int
    computed_macs: int
    layers: tuple[LayerCost, ...]

    @property
    def nominal_uj(self) -> float | None:
        return None if self.energy is None else self.energy[1].total_uj


@dataclass(frozen=True)
class Amdahl:
    """How fast the model could get at most if every sparse layer cost nothing.

    `left_dense`: layers that run dense on this target, `left_dense_share` their part of the latency.
    `ceiling`: dense latency over theirs; `ceiling_with_overhead`
    adds the fixed overhead of the sparse layers, which no sparsity removes.
    """

    left_dense: tuple[str, ...]
    left_dense_ms: float
    left_dense_share: float
    ceiling: float
    ceiling_with_overhead: float


@dataclass(frozen=True)
class Estimate:
    """Latency is the sum over layers: no overlap between layers.

    `dtypes`: in which products are costed; `dtype` is that of most MACs. `retyped`: a sentence where these are not
    those of the model. `fit`: in which memories the model has room.
    `elsewhere`: operators that the target does not have, each with what runs it instead.
    """

    target: str
    model: str
    sha256: str
    batch: int
    dtype: Dtype
    dtypes: tuple[Dtype, ...]
    as_is: Variant
    dense: Variant
    nm_alone: Variant
    blocks_alone: Variant
    amdahl: Amdahl
    bounds: dict[str, int]
    largest_activation_bytes: int
    leaned_on: tuple[Leaf, ...]
    notes: tuple[str, ...]
    retyped: tuple[str, ...]
    fit: Fit
    elsewhere: tuple[str, ...]

    @property
    def limited_by(self) -> Bound:
        """The resource that most of the time goes to."""
        spent: dict[Bound, float] = {"compute": 0.0, "onchip": 0.0, "dram": 0.0, "overhead": 0.0}
        for layer in self.layers:
            spent[layer.bound] += layer.latency_ms
        spent["overhead"] += self.as_is.latency_ms - sum(spent.values())
        return max(spent, key=lambda bound: spent[bound])

    @property
    def assumed(self) -> int:
        """How many of the numbers that it leaned on are assumed."""
        return sum(leaf.quantity.prov == "assumed" for leaf in self.leaned_on)

    @property
    def layers(self) -> tuple[LayerCost, ...]:
        return self.as_is.layers

    @property
    def speedup(self) -> float:
        """Dense latency over latency, both on this target."""
        return self.dense.latency_ms / self.as_is.latency_ms

    @property
    def energy_ratio(self) -> float | None:
        """Dense nominal energy over nominal energy, both on this target."""
        mine, dense = self.as_is.nominal_uj, self.dense.nominal_uj
        return dense / mine if mine and dense else None


def estimate(lowered: Lowered, target: Target) -> Estimate:
    """Cost of `lowered` on `target`.

    Raises:
        CrispError: the file was lowered for another target, or holds no operators.
    """
    if (lowered.target, lowered.target_version) != (target.name, target.descriptor.version):
        raise CrispError(
            f"The model was lowered for {lowered.target} version {lowered.target_version}, the target given is "
            f"{target.name} version {target.descriptor.version}. Lower it again for this target."
        )
    if lowered.target_sha256 != target.sha256:
        raise CrispError(
            f"The target {target.name} says other things now than when the model was lowered for it. Lower it again."
        )
    if not lowered.operators:
        raise CrispError(f"{lowered.model.file} has no operators that cost anything. Lower a model with layers.")
    variants = _variants(lowered, target)
    as_is, dense = variants["as_is"], variants["dense"]
    return Estimate(
        target=target.name,
        model=lowered.model.file,
        sha256=lowered.model.sha256,
        batch=lowered.batch,
        dtype=lowered.dtypes[0],
        dtypes=lowered.dtypes,
        as_is=as_is,
        dense=dense,
        nm_alone=variants["nm_alone"],
        blocks_alone=variants["blocks_alone"],
        amdahl=_amdahl(lowered, as_is, dense),
        bounds=dict(Counter(layer.bound for layer in as_is.layers)),
        largest_activation_bytes=max(op.input_bytes + op.output_bytes for op in lowered.operators),
        leaned_on=leaned_on(lowered, target),
        notes=lowered.notes,
        retyped=lowered.retyped,
        fit=fit(lowered, target),
        elsewhere=_elsewhere(lowered, target),
    )


def _variants(lowered: Lowered, target: Target) -> dict[VariantName, Variant]:
    """The model in each of its forms; forms that are the same are costed once."""
    again: Again = {}
    forms: dict[VariantName, tuple[LoweredOp, ...]] = {
        "as_is": lowered.operators,
        "dense": _relowered(lowered, target, without_sparsity, again),
        "nm_alone": _relowered(lowered, target, _nm_alone, again),
        "blocks_alone": _relowered(lowered, target, _blocks_alone, again),
    }
    costed: dict[tuple[int, ...], Variant] = {}
    found: dict[VariantName, Variant] = {}
    for name, operators in forms.items():
        same = tuple(id(op) for op in operators)
        if same not in costed:
            costed[same] = cost_operators(name, operators, target)
        found[name] = replace(costed[same], name=name)
    return found


def cost_operators(name: VariantName, operators: tuple[LoweredOp, ...], target: Target) -> Variant:
    """Cost every operator and sum up; on a measured processor also the layout changes between them."""
    timing = target.descriptor.timing
    if timing is not None:
        operators = with_layout_changes(operators, target.whole(timing.granule))
    weights = weight_bytes(operators)
    here = [target.runs(plain_name(op.op)) for op in operators]
    links = _linked(operators, here, target)
    layers = tuple(
        cost_layer(op, target, link=link, model_weight_bytes=weights) if own else _cost_elsewhere(op, target)
        for op, own, link in zip(operators, here, links, strict=True)
    )
    # Where computing hides what crosses a host link, it hides the hand-over too.
    hidden = any(link is not None and link.hidden for link in links)
    once = 0.0 if hidden else float(target.number(target.descriptor.overhead.per_inference) or 0)
    cycles = sum(layer.latency_cycles for layer in layers) + once
    latency_ms = cycles / float(target.clock_hz) * 1000
    return Variant(
        name=name,
        latency_ms=latency_ms,
        latency_cycles=cycles,
        energy=_energy(layers, target, latency_ms - sum(layer.latency_ms for layer in layers)),
        dram_bytes=sum(layer.dram_bytes for layer in layers),
        stored_weight_bytes=sum(layer.stored_weight_bytes for layer in layers),
        computed_macs=sum(layer.computed_macs for layer in layers),
        layers=layers,
    )


def _elsewhere(lowered: Lowered, target: Target) -> tuple[str, ...]:
    """A sentence for each operator type that the target lacks."""
    missing = Counter(op.op for op in lowered.operators if not target.runs(plain_name(op.op)))
    other = target.descriptor.fallback
    return tuple(
        f"{count} {name} {'runs' if count == 1 else 'run'} on {other}: {target.name} has no {name}"
        for name, count in missing.items()
    )


def _cost_elsewhere(op: LoweredOp, target: Target) -> LayerCost:
    """The cost on the fallback, in time; its cycles are counted in those of `target`."""
    other = target.fallback
    found = cost_layer(lower_elsewhere(op, other), other)
    scale = float(target.clock_hz / other.clock_hz)
    return replace(
        found,
        compute_cycles=ceil(found.compute_cycles * scale),
        onchip_cycles=ceil(found.onchip_cycles * scale),
        dram_cycles=ceil(found.dram_cycles * scale),
        overhead_cycles=found.overhead_cycles * scale,
        latency_cycles=found.latency_cycles * scale,
        reason=f"{other.name} runs it: {target.name} has no {op.op}",
    )


def _energy(layers: tuple[LayerCost, ...], target: Target, rest_ms: float) -> tuple[Energy, Energy, Energy] | None:
    """Sum over layers; `rest_ms` that belongs to no layer draws a share of the design power where there is no table."""
    known = [layer.energy for layer in layers if layer.energy is not None]
    if len(known) < len(layers):
        return None
    rest = [tdp_energy(target, max(0.0, rest_ms) / 1000, level) or Energy() for level in LEVELS]
    return (
        add([*(e[0] for e in known), rest[0]]),
        add([*(e[1] for e in known), rest[1]]),
        add([*(e[2] for e in known), rest[2]]),
    )


def _linked(operators: Sequence[LoweredOp], here: Sequence[bool], target: Target) -> list[Link | None]:
    """What of every layer crosses the host link: the weights of the first layers fill what the chip pins."""
    if target.descriptor.array.design != "host_link":
        return [None] * len(operators)
    room = int(target.number(target.dram.pinned_weights) or 0)
    linked: list[int] = []
    for op, own in zip(operators, here, strict=True):
        weights = op.tiling.stored_weight_bytes if op.tiling and own else 0
        linked.append(max(0, weights - room))
        room = max(0, room - weights)
    run = [(op, moved) for op, moved, own in zip(operators, linked, here, strict=True) if own]
    crossing = sum(
        over(moved, target.number(target.dram.read_bw)) + overhead_cycles(op.kind, target) for op, moved in run
    )
    computing = sum(compute_cycles(op.tiling, op.kind, target) for op, _ in run if op.tiling)
    once = target.number(target.descriptor.overhead.per_inference) or 0
    return [Link(moved, hidden=computing > crossing + once) for moved in linked]


def without_sparsity(pattern: LayerSparsity) -> LayerSparsity:
    return LayerSparsity()


def _nm_alone(pattern: LayerSparsity) -> LayerSparsity:
    return replace(pattern, block_rows=0, block_cols=0, kept_blocks=0)


def _blocks_alone(pattern: LayerSparsity) -> LayerSparsity:
    return replace(pattern, nm_keep=0, nm_group=0)


Again = dict[tuple[str, LayerSparsity], LoweredOp]


def _relowered(
    lowered: Lowered, target: Target, change: Callable[[LayerSparsity], LayerSparsity], again: Again
) -> tuple[LoweredOp, ...]:
    """The operators with their patterns changed; a hybrid operator without any pattern left is the plain one.

    `again`: what was lowered for another variant and serves this one too.
    """
    operators = []
    for op in lowered.operators:
        pattern = change(op.pattern)
        if pattern == DENSE or not (pattern.has_nm or pattern.has_blocks):
            pattern = replace(DENSE, density=pattern.density)
        if op.matrix is None or pattern == op.pattern:
            operators.append(op)
            continue
        if (op.name, pattern) not in again:
            hybrid = op.op in OPERATORS and (pattern.has_nm or pattern.has_blocks)
            again[op.name, pattern] = lower_again(op, pattern, target, lowered.dtype, hybrid=hybrid)
        operators.append(again[op.name, pattern])
    return tuple(operators)


def _amdahl(lowered: Lowered, as_is: Variant, dense: Variant) -> Amdahl:
    gains = {op.name for op in lowered.operators if runs_hybrid(op) or op.seen.unstructured == "skip"}
    left = [layer for layer in as_is.layers if layer.name not in gains]
    fixed_ms = as_is.latency_ms - sum(layer.latency_ms for layer in as_is.layers)
    left_ms = sum(layer.latency_ms for layer in left) + max(0.0, fixed_ms)
    overhead_ms = sum(
        layer.overhead_cycles / layer.latency_cycles * layer.latency_ms
        for layer in as_is.layers
        if layer.name in gains and layer.latency_cycles
    )
    return Amdahl(
        left_dense=tuple(layer.name for layer in left),
        left_dense_ms=left_ms,
        left_dense_share=left_ms / as_is.latency_ms if as_is.latency_ms else 1.0,
        ceiling=dense.latency_ms / left_ms if left_ms else inf,
        ceiling_with_overhead=dense.latency_ms / (left_ms + overhead_ms) if left_ms + overhead_ms else inf,
    )
