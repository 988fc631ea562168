"""The six designs of Sparseloop's figure 15 and the cores of the third-party runs, as architecture descriptors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crisp_onnx.errors import CrispError, nearest
from published.dual_sided import DualEnergy, DualSidedCore, run_dual_sided
from published.tensor_core import EnergyPerAction, TensorCore, run_tensor_core

# Energy per action: ert_art/int8/*/ERT_summary.yaml of the artifact. The dense core was estimated with other component
# tables than the sparse ones, so that energies of the two must not be compared.
_ENERGY_45NM = EnergyPerAction(
    mac=0.5608,
    lrf=0.072,
    rf_read=1.65889,
    rf_write=1.67589,
    buffer_read=285.71464 / 64,
    buffer_write=316.96744 / 64,
    meta_bit_read=25.8695 / 64,
    meta_bit_write=19.6486 / 64,
    dram=512 / 8,
)
_ENERGY_DENSE = EnergyPerAction(
    mac=0.44688,
    lrf=0.02435,
    rf_read=3.1647,
    rf_write=3.20183,
    buffer_read=536.05005 / 64,
    buffer_write=599.806 / 64,
    meta_bit_read=0.0,
    meta_bit_write=0.0,
    dram=512 / 8,
)

STC = TensorCore(
    name="STC",
    rows=64,
    lanes=16,
    columns=128,
    buffer_words=262144,
    words_per_cycle=42,
    word_bits=8,
    groups=(4,),
    coding="offset",
    compresses_activations=False,
    energy=_ENERGY_45NM,
)
TC = replace(STC, name="TC", groups=(), coding="none", energy=_ENERGY_DENSE)
STC_FLEXIBLE = replace(STC, name="STC_flexible", groups=(4, 6, 8))
STC_FLEXIBLE_RLE = replace(STC_FLEXIBLE, name="STC_flexible-RLE", coding="run_length")
STC_FLEXIBLE_DUAL_RLE = replace(STC_FLEXIBLE_RLE, name="STC_flexible_dualCompress-RLE", compresses_activations=True)
CORES = {core.name: core for core in (TC, STC, STC_FLEXIBLE, STC_FLEXIBLE_RLE, STC_FLEXIBLE_DUAL_RLE)}

DSTC = DualSidedCore(
    name="DSTC",
    units=4,
    granule_a=16,
    granule_b=16,
    tiles=((64, 32), (32, 64)),
    arrangements=((2, 2),),
    accumulate_k=None,
    buffer_words=262144,
    words_per_cycle=42,
    accumulator_words_per_cycle=256,
    word_bits=8,
    vector_bits="tile",
    dense_above=0.999,
    energy=DualEnergy(
        mac=_ENERGY_45NM.mac,
        lrf=0.49218,
        rf_read=_ENERGY_45NM.rf_read,
        rf_write=_ENERGY_45NM.rf_write,
        buffer_read=_ENERGY_45NM.buffer_read,
        buffer_write=_ENERGY_45NM.buffer_write,
        meta_bit_read=_ENERGY_45NM.meta_bit_read,
        meta_bit_write=_ENERGY_45NM.meta_bit_write,
        dram=_ENERGY_45NM.dram,
    ),
)

# Figure 21 of the dual-side sparse tensor core paper: one 32 x 32 output tile, 8 weights x 16 activations a cycle.
DUAL_SIDE_PAPER = replace(
    DSTC,
    name="DSTC paper",
    units=1,
    granule_a=8,
    tiles=((32, 32),),
    arrangements=((1, 1),),
    dense_above=1.0,
    energy=None,
)


@dataclass(frozen=True)
class DesignRun:
    """Cycles and energy (uJ, total and by component) of one design on one product."""

    cycles: float
    energy_uj: float
    parts_uj: dict[str, float]
    bound: str


def run_design(
    design: str,
    M: int,
    K: int,
    N: int,
    *,
    weight_density: float,
    activation_density: float,
    tile: tuple[int, int] | None = None,
    arrangement: tuple[int, int] | None = None,
) -> DesignRun:
    """A design of figure 15 by its name in the artifact; a weight density of 2/m stands for the pattern 2:m.

    Every design sees the same weights: n:m groups padded to whole rows of the array's lanes. `tile`, `arrangement`:
    the mapping of DSTC, otherwise the fastest.

    Raises:
        CrispError: an unknown design, or a density that is neither 1 nor 2/m.
    """
    group = round(2 / weight_density)
    if weight_density < 1 and abs(2 / group - weight_density) > 1e-3:
        raise CrispError(f"Weight density {weight_density} is not 2/m of any pattern 2:m. Use 1, 1/2, 1/3 or 1/4.")
    nm = (2, group) if weight_density < 1 else None
    if design == DSTC.name:
        span = -(-K * 2 // (STC.lanes * group)) * STC.lanes * group // 2 if nm else K
        dual = run_dual_sided(
            DSTC,
            M,
            span,
            N,
            weight_density=2 / group if nm else 1.0,
            activation_density=activation_density,
            tile=tile,
            arrangement=arrangement,
        )
        return DesignRun(dual.cycles, dual.total_uj, dual.energy_uj, dual.bound)
    if design not in CORES:
        raise CrispError(f"Unknown design {design!r}.{nearest(design, [*CORES, DSTC.name])}")
    core = run_tensor_core(CORES[design], M, K, N, nm=nm, activation_density=activation_density)
    return DesignRun(core.cycles, core.total_uj, core.energy_uj, core.bound)
