"""Explain a target in words: peak, ridge point, which patterns it runs and with what effect, what is assumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lowering.target import Target

Zeros = Literal["skip", "store", "nothing"]
ZEROS: tuple[Zeros, ...] = ("skip", "store", "nothing")
"""From the targets that gain the most by them to those that gain nothing."""
_EFFECT = {
    "skip": "skipped: zeros cost neither time nor energy",
    "gate": "gated: zeros cost the cycle but little energy",
    "none": "computed like any other value",
}


@dataclass(frozen=True)
class TargetSummary:
    """One line about a target: dense peak of its first type in TOPS, DRAM bandwidth in GB/s, what it skips.

    `zeros`: whether it skips them, only stores them smaller, or does nothing with them. `hand_over`: the file for it.
    """

    name: str
    kind: str
    dtypes: tuple[str, ...]
    peak_tops: float
    dram_gb_s: float | None
    skips: tuple[str, ...]
    assumed: int
    numbers: int
    summary: str
    zeros: Zeros
    hand_over: str


def summarize_target(target: Target) -> TargetSummary:
    """What `crisp-onnx targets` lists."""
    descriptor = target.descriptor
    bandwidth = target.number(target.dram.read_bw)
    origins = Counter(leaf.quantity.prov for leaf in target.leaves())
    return TargetSummary(
        name=target.name,
        kind=descriptor.kind,
        dtypes=descriptor.dtypes,
        peak_tops=float(2 * target.peak_macs(descriptor.dtypes[0]) * target.clock_hz / 10**12),
        dram_gb_s=None if bandwidth is None else float(bandwidth * target.clock_hz / 10**9),
        skips=_skipped(target),
        assumed=origins["assumed"],
        numbers=sum(origins.values()),
        summary=descriptor.summary,
        zeros="skip" if _skipped(target) else "store" if target.stores_smaller else "nothing",
        hand_over=hand_over(target),
    )


def hand_over(target: Target) -> str:
    """The file to give to what runs models there."""
    descriptor = target.descriptor
    if descriptor.kind == "portable":
        return "any of the files"
    if descriptor.sparsity.hybrid_operators_only:
        return "model.onnx with hybrid operators, to this package's kernels"
    skips = any(support.compute == "skip" and support.pattern == "2:4" for support in descriptor.sparsity.nm)
    if skips and descriptor.kind in ("gpu", "npu"):
        return "--emit dense --pattern 2:4, to TensorRT with --sparsity=enable; QDQ for int8"
    if descriptor.kind == "accelerator":
        return "the lowered .json; the machine is simulated"
    if descriptor.array.design == "ethos_u" or target.stores_smaller:
        return "--emit dense, as int8 to the vendor's compiler, which stores zeros smaller"
    return "fewer channels (--method channels), as int8 to the vendor's compiler: zeros gain nothing"


def ridge_point(target: Target, dtype: str) -> float | None:
    """Dense MACs per DRAM byte below which a layer is bound by memory; `None` where no bandwidth is given.

    Where one port reads and another writes, per byte read.
    """
    bandwidth = target.number(target.dram.read_bw)
    return None if bandwidth is None else float(target.peak_macs(dtype) / bandwidth)


def describe_target(target: Target) -> tuple[str, ...]:
    """Sentences about `target`, the assumed and fitted numbers last."""
    descriptor = target.descriptor
    lines = [f"{target.name} ({descriptor.kind}): {descriptor.summary}."]
    for dtype in descriptor.dtypes:
        peak = target.peak_macs(dtype)
        ridge = ridge_point(target, dtype)
        tops = float(2 * peak * target.clock_hz / 10**12)
        byte = "byte read from DRAM" if target.dram.mode == "split" else "DRAM byte"
        edge = f"; a layer under {ridge:.3g} MAC per {byte} is bound by memory" if ridge else ""
        clock = float(target.clock_hz / 10**9)
        lines.append(f"{dtype}: {float(peak):g} dense MAC a cycle at {clock:g} GHz = {tops:.4g} TOPS{edge}.")
    lines += [*_pattern_lines(target), _energy_line(target), _overhead_line(target)]
    for leaf in target.leaves():
        if leaf.quantity.prov in ("assumed", "fitted"):
            q = leaf.quantity
            lines.append(f"{q.prov}: {leaf.key} = {q.value:g} {q.unit} ({q.ref})")
    return tuple(line for line in lines if line)


def _skipped(target: Target) -> tuple[str, ...]:
    sparsity = target.descriptor.sparsity
    found = [support.pattern for support in sparsity.nm if support.compute == "skip"]
    if sparsity.block is not None and sparsity.block.compute == "skip":
        found.append("blocks")
    if sparsity.unstructured is not None and sparsity.unstructured.compute == "skip":
        found.append("any zero")
    return tuple(found)


def _pattern_lines(target: Target) -> list[str]:
    sparsity = target.descriptor.sparsity
    lines = []
    for nm in sparsity.nm:
        limit = target.number(nm.max_speedup)
        most = f", at most {float(limit):g} times as fast" if limit else ""
        lines.append(f"Weights {nm.pattern}: {_effect(nm.compute, nm.storage)}{most}.")
    if sparsity.block is None:
        lines.append("Dropped blocks: computed like any other value, stored in full.")
    else:
        least = target.number(sparsity.block.min_bh)
        rule = f", from {int(least)} rows a block" if least and sparsity.block.compute == "skip" else ""
        lines.append(f"Dropped blocks: {_effect(sparsity.block.compute, sparsity.block.storage)}{rule}.")
    loose = sparsity.unstructured
    lines.append(
        f"Zeros anywhere: {_effect(loose.compute, loose.storage)}."
        if loose
        else "Zeros anywhere: computed like any other value, stored in full."
    )
    if sparsity.hybrid_operators_only:
        lines.append("Skipping happens in this package's hybrid operators only; plain nodes run dense.")
    return lines


def _effect(compute: str, storage: bool) -> str:
    return f"{_EFFECT[compute]}, {'stored smaller' if storage else 'stored in full'}"


def _energy_line(target: Target) -> str:
    table = target.descriptor.energy
    if table is None:
        return "Energy: not known, none is reported."
    if table.mac_pj is not None:
        return (
            f"Energy: a table per action; {table.mac_pj.nominal.value:g} {table.mac_pj.nominal.unit} a MAC nominally."
        )
    watts = target.number(table.from_tdp_w)
    return f"Energy: 40, 70 and 100 % of {float(watts):g} W over the time." if watts else "Energy: not known."


def _overhead_line(target: Target) -> str:
    overhead = target.descriptor.overhead
    layer, once = target.number(overhead.per_layer), target.number(overhead.per_inference)
    parts = []
    if layer:
        parts.append(f"{float(layer / target.clock_hz) * 1e6:g} us a layer")
    if once:
        parts.append(f"{float(once / target.clock_hz) * 1e3:g} ms an inference")
    if overhead.by_kind:
        parts.append(f"its own figure for {', '.join(overhead.by_kind)}")
    return f"Fixed overhead: {', '.join(parts)}." if parts else "Fixed overhead: none given."
