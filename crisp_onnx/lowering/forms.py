"""The form in which a target runs a sparse layer: as its pattern stands, with a part of it alone, or dense.

A machine that skips zeros can also leave them in place. So a sparse layer never costs more than the dense one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from crisp_onnx.lowering.actions import action_energy
from crisp_onnx.lowering.cycles import busy_cycles, overhead_cycles
from crisp_onnx.lowering.layer_sparsity import DENSE, LayerSparsity, Seen, see, trimmed
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.memory import Stay
from crisp_onnx.lowering.schema import OpKind
from crisp_onnx.lowering.target import Target
from crisp_onnx.lowering.tiling import Tiling, tile


@dataclass(frozen=True)
class Ground:
    """What a layer stands on, whatever its form. `kind`: as it is; `dense_kind`: of the operator that runs it dense."""

    matrix: Matrix
    target: Target
    dtype: str
    kind: OpKind
    dense_kind: OpKind
    activation_density: float
    stay: Stay


@dataclass(frozen=True)
class Form:
    """A layer as the target may run it. `kind`: of the operator that it is then; `cycles` with its overhead."""

    pattern: LayerSparsity
    seen: Seen
    tiling: Tiling
    kind: OpKind
    cycles: Fraction
    energy_pj: float


def best_form(pattern: LayerSparsity, ground: Ground) -> Form:
    """What the target makes of `pattern`.

    Of the forms that cost no more time and no more energy than the dense one, the fastest, and its own where none is
    faster than that. A measured processor is left alone: it runs the operator that stands in the file.
    """
    own = _form(pattern, ground)
    if own.pattern == DENSE or ground.target.descriptor.timing is not None:
        return own
    dense = _form(DENSE, ground)
    if own.energy_pj > dense.energy_pj:
        # Reading less may cost a little of the time that skipping gains, where reading more costs more than all of it.
        own = _form(pattern, ground, least_reads=True)
    if own.seen.unstructured == "skip" and own.tiling == dense.tiling:
        return replace(dense, seen=replace(dense.seen, reason="its zeros are too few to gain anything: it runs dense"))
    forms = [own, *(_form(other, ground) for other in _parts(own.pattern)), dense]
    allowed = [
        form for form in forms if form.cycles <= dense.cycles and form.energy_pj <= dense.energy_pj * (1 + 1e-12)
    ]
    best = min(allowed, key=lambda form: (form.cycles, form.energy_pj, form is not own))
    if best is own or (best.cycles, best.energy_pj) == (own.cycles, own.energy_pj):
        return own
    name = "dense" if best is dense else f"{best.pattern.name} alone"
    # A hybrid operator that keeps every block has no pattern left to name.
    what = "the hybrid operator" if own.pattern.name == DENSE.name else own.pattern.name
    reason = f"{what} would take {_more(own, best)}, so it runs as {name}"
    said = "; ".join(part for part in (best.seen.reason, reason) if part)
    return replace(best, seen=replace(best.seen, reason=said))


def _more(own: Form, best: Form) -> str:
    """In words, what `own` takes more of than `best`."""
    if own.cycles <= best.cycles:
        return "more energy"
    ratio = f"{float(own.cycles / best.cycles):.3g}"
    return "slightly more cycles" if ratio == "1" else f"{ratio} times the cycles"


def _form(pattern: LayerSparsity, ground: Ground, *, least_reads: bool = False) -> Form:
    matrix, target = ground.matrix, ground.target
    pattern = trimmed(pattern, matrix.K)
    seen = see(pattern, target, k=matrix.K, kernel_taps=matrix.window[0] * matrix.window[1])
    tiling = tile(
        matrix,
        pattern,
        seen,
        target,
        ground.dtype,
        activation_density=ground.activation_density,
        stay=ground.stay,
        least_reads=least_reads,
    )
    kind = ground.dense_kind if pattern == DENSE else ground.kind
    table = target.descriptor.energy
    energy = 0.0
    if table is not None and table.mac_pj is not None:
        pj = target.energy_pj["nominal"]
        energy = action_energy(matrix, tiling, pj, charges_metadata=table.dram_metadata).total
    cycles = busy_cycles(tiling, kind, target) + overhead_cycles(kind, target)
    return Form(pattern, seen, tiling, kind, cycles, energy)


def _parts(pattern: LayerSparsity) -> Iterator[LayerSparsity]:
    """`pattern` without its blocks and without its n:m, where it has both."""
    if pattern.has_nm and pattern.has_blocks:
        yield replace(pattern, block_rows=0, block_cols=0, kept_blocks=0)
        yield replace(pattern, nm_keep=0, nm_group=0)
