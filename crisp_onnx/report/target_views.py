"""What targets, lower and estimate found, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from crisp_onnx.cost import Estimate, Variant
from crisp_onnx.cost.calibrate.write import Calibrated
from crisp_onnx.lowering import Lowered
from crisp_onnx.lowering.describe import ZEROS
from crisp_onnx.report.comparison_rows import comparison_rows, comparison_sentences
from crisp_onnx.report.findings import Estimation, FittedTarget, TargetComparison, TargetList, TargetText
from crisp_onnx.report.table import lines, rows_table
from crisp_onnx.report.wording import LIMITS, count_text, size_text

View = tuple[RenderableType, ...]


def targets_view(found: TargetList) -> View:
    """A row per target: those that skip zeros, then those that store them smaller, then the others."""
    rows = [
        (
            t.zeros,
            t.name,
            t.kind,
            ", ".join(t.dtypes),
            f"{t.peak_tops:.4g}",
            "unknown" if t.dram_gb_s is None else f"{t.dram_gb_s:.4g}",
            ", ".join(t.skips) or "nothing",
            f"{t.assumed} of {t.numbers}",
            t.summary,
            t.hand_over,
        )
        for t in sorted(found.targets, key=lambda target: (ZEROS.index(target.zeros), target.name))
    ]
    columns = (
        "zeros", "target", "kind", "types", "dense TOPS", "DRAM GB/s", "skips", "assumed", "what it is", "hand it",
    )  # fmt: skip
    return (rows_table("", columns, rows, right=(4, 5, 7)),)


def target_view(found: TargetText) -> View:
    """Sentence by sentence."""
    return lines((*found.lines, f"File: {found.path}"))


def calibration_view(found: Calibrated) -> View:
    """A row per kind of layer, and the error on layers that the fit never saw."""
    rows = [
        (
            kind,
            fit.rows,
            f"{100 * fit.median_error:.1f} %",
            f"{fit.parts_us[0]:.3g}",
            f"{1e-3 / fit.parts_us[1]:.4g}" if fit.parts_us[1] else "",
        )
        for kind, fit in found.kinds.items()
    ]
    columns = ("kind of layer", "measured", "median error", "fixed us", "1e9 MAC/s")
    accuracy = found.accuracy
    threads = "1 thread" if found.times.threads == 1 else f"{found.times.threads} threads"
    sentences = (
        f"{found.times.machine.cpu}, {threads}, ONNX Runtime {found.times.onnxruntime}: "
        f"{found.times.bandwidth_bytes_s / 1e9:.3g} GB/s read.",
        f"On {accuracy.layers_held_out} layers it was not fitted on: median error "
        f"{accuracy.median_error_percent:.1f} %, 90th percentile {accuracy.p90_error_percent:.1f} %.",
    )
    return (rows_table("", columns, rows, right=(1, 2, 3, 4)), Text(), *lines(sentences))


def fitted_view(found: FittedTarget) -> View:
    """A row per kind of layer, and the error on layers that the fit never saw."""
    fitted = found.found
    rows = [(kind, fitted.rows.get(kind, 0), f"{100 * share:.1f} %") for kind, share in fitted.rates.efficiency.items()]
    left = f"; {fitted.left_out} rows of the profile are no layers or have no shapes" if fitted.left_out else ""
    rates = fitted.rates
    memory = () if rates.bandwidth is None else (f"{100 * rates.bandwidth:.0f} % of the memory's bandwidth",)
    each = () if rates.overhead_us is None else (f"{rates.overhead_us:.3g} us for each layer",)
    sentences = (
        f"{fitted.tool}: {', '.join((*memory, *each))}{left}.",
        f"On {fitted.layers_held_out} layers it was not fitted on: median error {fitted.median_error_percent:.1f} %, "
        f"90th percentile {fitted.p90_error_percent:.1f} %.",
        f"Written to {found.path}, from {found.base}.",
    )
    if not rows:
        return lines(sentences)
    return (rows_table("", ("kind of layer", "layers", "of the peak"), rows, right=(1, 2)), Text(), *lines(sentences))


def lowered_view(lowered: Lowered, path: Path) -> View:
    """A row per operator, with what the target makes of its pattern and why."""
    rows = []
    for op in lowered.operators:
        matrix, tiling = op.matrix, op.tiling
        shape = f"{matrix.groups} x {matrix.M} x {matrix.K} x {matrix.N}" if matrix else ""
        stored = size_text(tiling.stored_weight_bytes) if tiling else ""
        rows.append((op.name, op.op, shape, op.pattern.name, op.seen.reason, stored, size_text(sum(op.dram_bytes))))
    columns = ("operator", "op", "g x M x K x N", "pattern", "as the target sees it", "weights", "DRAM")
    types = " and ".join(lowered.dtypes)
    table = rows_table(f"{lowered.model.file} on {lowered.target}, {types}", columns, rows, right=(5, 6))
    sentences = (*_stopped(lowered.retyped), *lowered.notes, f"Written to {path}.")
    return (table, Text(), *lines(sentences))


def estimate_view(found: Estimation) -> View:
    """End to end first, then layer by layer, then what the estimate leaned on."""
    one = found.estimate
    lead = [*lines(lead_sentences(found)), Text()]
    parts: list[RenderableType] = [*lead, _variants(one), Text(), _layers(one), Text()]
    slowest = ", ".join(f"{count} {name}" for name, count in sorted(one.bounds.items(), key=lambda item: -item[1]))
    amdahl = one.amdahl
    sentences = [
        f"Layers by what limits them: {slowest}.",
        f"Left dense: {len(amdahl.left_dense)} of {len(one.layers)} operators, {100 * amdahl.left_dense_share:.1f} % "
        f"of the time; with all others free the model would be {_times(amdahl.ceiling)} as fast as dense, "
        f"{_times(amdahl.ceiling_with_overhead)} with their fixed overhead.",
        "Latency is the sum over layers: no overlap between layers.",
        *one.notes,
    ]
    if found.against is not None and found.speedup is not None:
        sentences.append(
            f"Against {found.against.model} on the same target: {_ms(found.against.as_is.latency_ms)}, "
            f"{found.speedup:.3g} times as long."
        )
    for leaf in one.leaned_on:
        q = leaf.quantity
        sentences.append(f"Leaned on {q.prov} {leaf.key} = {q.value:g} {q.unit} ({q.ref}).")
    return (*parts, *lines(sentences))


def comparison_view(found: TargetComparison) -> View:
    """A row per target, then how to read it and what only some of the rows say."""
    rows = comparison_rows(found)
    table = rows_table(rows.title, rows.columns, rows.cells, right=sorted(rows.right))
    return (table, Text(), *lines(comparison_sentences(found)))


def lead_sentences(found: Estimation) -> tuple[str, ...]:
    """What a person asks first: does it fit, how long does it take dense and as it is, what limits it."""
    one = found.estimate
    energy = one.as_is.nominal_uj
    spent = (
        ""
        if energy is None or one.dense.nominal_uj is None
        else f", {one.dense.nominal_uj / 1e3:.3g} mJ dense and {energy / 1e3:.3g} mJ as it is"
    )
    sentences = [
        fit_sentence(one),
        *_stopped(one.retyped),
        f"{one.model} on {one.target}: dense {_ms(one.dense.latency_ms)}, as it is {_ms(one.as_is.latency_ms)} "
        f"({one.speedup:.2f}x){spent}, limited by {LIMITS[one.limited_by]}; {one.assumed} of the numbers behind it are "
        "assumed.",
        *_stopped(one.elsewhere),
    ]
    if found.against is not None:
        other = found.against
        said = " ".join((fit_sentence(other), *_stopped(other.retyped)))
        sentences.append(f"{said} {other.model}: {_ms(other.as_is.latency_ms)}.")
    return tuple(sentences)


def _stopped(sentences: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{sentence}." for sentence in sentences)


def fit_sentence(one: Estimate) -> str:
    """Whether the model has room, in words."""
    found = one.fit
    needs = (
        f"{size_text(found.weight_bytes)} of weights and {size_text(found.peak_activation_bytes)} of activations at "
        "their peak"
    )
    if found.verdict == "no":
        room = size_text(found.off_chip_bytes or 0)
        return f"{one.model} does not fit on {one.target}: {needs}, for {room} of memory."
    if found.verdict == "on_chip":
        return f"{one.model} fits on the chip: {needs}, in {size_text(found.on_chip_bytes or 0)}."
    if found.verdict == "off_chip" and found.on_chip_bytes is None:
        return f"{one.model} fits in memory: {needs}, in {size_text(found.off_chip_bytes or 0)}."
    if found.verdict == "off_chip" and found.on_chip_bytes is not None:
        return f"{one.model} fits in memory, not on the chip ({size_text(found.on_chip_bytes)}): {needs}."
    more = f" more than the chip's {size_text(found.on_chip_bytes)}:" if found.on_chip_bytes is not None else ""
    beside = " beside it" if more else ""
    return f"{one.model} needs{more} {needs}; how much memory {one.target} has{beside} is not known."


def _variants(one: Estimate) -> RenderableType:
    names = {"as_is": "as it is", "dense": "dense", "nm_alone": "N:M alone", "blocks_alone": "blocks alone"}
    rows = []
    for variant in (one.as_is, one.dense, one.nm_alone, one.blocks_alone):
        ratio = one.dense.latency_ms / variant.latency_ms if variant.latency_ms else float("inf")
        rows.append(
            (
                names[variant.name],
                _ms(variant.latency_ms),
                f"{ratio:.2f}x",
                _energy_text(variant),
                size_text(variant.stored_weight_bytes),
                size_text(variant.dram_bytes),
            )
        )
    types = " and ".join(one.dtypes)
    title = f"{one.model} on {one.target}, {types}, batch {one.batch}, the baseline is dense on the same target"
    columns = ("model", "latency", "dense over it", "energy uJ: low, nominal, high", "weights", "DRAM traffic")
    return rows_table(title, columns, rows, right=(1, 2, 3, 4, 5))


def _layers(one: Estimate) -> RenderableType:
    rows = [
        (
            layer.name,
            layer.kind,
            layer.pattern,
            count_text(layer.macs),
            count_text(layer.compute_cycles),
            count_text(layer.onchip_cycles),
            count_text(layer.dram_cycles),
            layer.bound,
            _ms(layer.latency_ms),
            "" if layer.nominal_uj is None else f"{layer.nominal_uj:.4g}",
            layer.reason,
        )
        for layer in one.layers
    ]
    columns = ("layer", "kind", "pattern", "MACs", "compute", "on-chip", "DRAM", "bound", "latency", "uJ", "why")
    return rows_table("Cycles a layer", columns, rows, right=(3, 4, 5, 6, 8, 9))


def _energy_text(variant: Variant) -> str:
    if variant.energy is None:
        return "not known"
    text = ", ".join(f"{energy.total_uj:.4g}" for energy in variant.energy)
    return f"{text} (from design power)" if variant.energy[1].from_tdp else text


def _ms(milliseconds: float) -> str:
    """Four figures at any size: estimates of small layers are microseconds."""
    return f"{milliseconds:.4g} ms"


def _times(ratio: float) -> str:
    return "without limit" if ratio == float("inf") else f"{ratio:.3g} times"
