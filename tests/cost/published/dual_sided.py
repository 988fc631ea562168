"""Dual-sided sparse tensor cores: outer products that skip zeros of weights and activations alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lowering.expectation import expected_folds
from published.tensor_core import doublings


@dataclass(frozen=True)
class DualEnergy:
    """pJ per action: a MAC, a value of line buffer, accumulator, buffer or DRAM, a bit of a mask."""

    mac: float
    lrf: float
    rf_read: float
    rf_write: float
    buffer_read: float
    buffer_write: float
    meta_bit_read: float
    meta_bit_write: float
    dram: float


@dataclass(frozen=True)
class DualSidedCore:
    """`units` arrays, each taking `granule_a` weights x `granule_b` activations of one k in a cycle.

    `tiles`: (weights, activations) of a unit's output tile; `arrangements`: how units lie over (rows, columns).
    `accumulate_k`: values of K summed in the accumulators before they are exchanged with the shared buffer; `None` when
    an output tile stays until it is done. `words_per_cycle`, `accumulator_words_per_cycle`: read ports of shared buffer
    and of one unit's accumulators. `bitmask_bits`: one bit a position; `vector_bits`: one more bit for every granule or
    every whole tile vector, in which case empty granules carry no mask. `dense_above`: share of the dense cycles above
    which operands are not compressed at all.
    """

    name: str
    units: int
    granule_a: int
    granule_b: int
    tiles: tuple[tuple[int, int], ...]
    arrangements: tuple[tuple[int, int], ...]
    accumulate_k: int | None
    buffer_words: int
    words_per_cycle: int
    accumulator_words_per_cycle: int
    word_bits: int
    vector_bits: Literal["granule", "tile"]
    dense_above: float
    energy: DualEnergy | None


@dataclass(frozen=True)
class DualRun:
    """Cycles of the whole and of the MACs alone, energy in uJ by component (empty without an energy table)."""

    cycles: float
    mac_cycles: float
    energy_uj: dict[str, float]
    bound: Literal["compute", "onchip", "accumulator"]
    tile: tuple[int, int]

    @property
    def total_uj(self) -> float:
        return sum(self.energy_uj.values())


@dataclass(frozen=True)
class _Product:
    """Weights (M, K) times activations (K, N), densities d_a and d_b, on over_m x over_n tiles of ta x tb."""

    M: int
    K: int
    N: int
    d_a: float
    d_b: float
    ta: int
    tb: int
    over_m: int
    over_n: int


def fold_ratio(core: DualSidedCore, dA: float, dB: float, tile: tuple[int, int]) -> float:
    """Cycles relative to the dense product when memory is no limit: expected folds over the folds of full vectors."""
    folds = expected_folds(tile[0], dA, core.granule_a) * expected_folds(tile[1], dB, core.granule_b)
    return folds / (-(-tile[0] // core.granule_a) * -(-tile[1] // core.granule_b))


def run_dual_sided(
    core: DualSidedCore,
    M: int,
    K: int,
    N: int,
    *,
    weight_density: float,
    activation_density: float,
    tile: tuple[int, int] | None = None,
    arrangement: tuple[int, int] | None = None,
) -> DualRun:
    """Weights (M, K) times activations (K, N), both with zeros at random places.

    Without `tile` and `arrangement` the fastest of the core's own is taken. A product from which skipping gains nothing
    runs dense, without masks.
    """
    runs = []
    for ta, tb in (tile,) if tile else core.tiles:
        dA, dB = weight_density, activation_density
        if fold_ratio(core, dA, dB, (ta, tb)) > core.dense_above:
            dA = dB = 1.0
        for over_m, over_n in (arrangement,) if arrangement else core.arrangements:
            runs.append(_run(core, _Product(M, K, N, dA, dB, ta, tb, over_m, over_n)))
    return min(runs, key=lambda run: (run.cycles, run.total_uj))


def _run(core: DualSidedCore, p: _Product) -> DualRun:
    folds_a = expected_folds(p.ta, p.d_a, core.granule_a)
    folds_b = expected_folds(p.tb, p.d_b, core.granule_b)
    tiles_m, tiles_n = -(-p.M // p.ta), -(-p.N // p.tb)
    passes = -(-tiles_m // p.over_m) * -(-tiles_n // p.over_n)
    mac_cycles = p.K * passes * folds_a * folds_b
    macs = p.M * p.K * p.N * p.d_a * p.d_b
    trips = 1 if core.accumulate_k is None else -(-p.K // core.accumulate_k)
    reads_a, reads_b = tiles_n / p.over_n, tiles_m / p.over_m
    mask_a, mask_b = _mask_bits(core, p)
    bits = mask_a * reads_a + mask_b * reads_b
    words = p.M * p.K * p.d_a * reads_a + p.K * p.N * p.d_b * reads_b
    onchip = (words + p.M * p.N * (trips - 1) + bits / core.word_bits) / core.words_per_cycle
    fills = p.M * p.N * trips if trips > 1 else 0
    accumulators = (macs + fills) / core.units / core.accumulator_words_per_cycle
    times: dict[Literal["compute", "accumulator", "onchip"], float]
    times = {"compute": mac_cycles, "accumulator": accumulators, "onchip": onchip}
    bound = max(times, key=lambda key: times[key])
    energy = _energy(core, core.energy, p, (words, bits)) if core.energy else {}
    return DualRun(times[bound], mac_cycles, energy, bound, (p.ta, p.tb))


def _mask_bits(core: DualSidedCore, p: _Product) -> tuple[float, float]:
    """Bits that say where the nonzeros of weights and of activations are; none where whole tiles are dense."""
    bits = []
    for values, density, granule, tile in (
        (p.M * p.K, p.d_a, core.granule_a, p.ta),
        (p.K * p.N, p.d_b, core.granule_b, p.tb),
    ):
        if core.vector_bits == "granule":
            bits.append(values * (1 - (1 - density) ** granule + 1 / granule))
        else:
            bits.append(values * (1 - (1 - density) ** granule + 1 / tile) if density < 1 else 0.0)
    return bits[0], bits[1]


def _energy(core: DualSidedCore, table: DualEnergy, p: _Product, moved: tuple[float, float]) -> dict[str, float]:
    """uJ by component; `moved`: words and mask bits from buffer to line buffers.

    Line buffers: values are filled once per unit and read once for every fold of the other side.
    """
    folds_a = expected_folds(p.ta, p.d_a, core.granule_a)
    folds_b = expected_folds(p.tb, p.d_b, core.granule_b)
    fills_a, fills_b = p.M * p.K * p.d_a * -(-p.N // p.tb), p.K * p.N * p.d_b * -(-p.M // p.ta)
    macs, outputs = p.M * p.K * p.N * p.d_a * p.d_b, p.M * p.N
    fetched, fetched_bits = _dram_reads(core, p)
    parts = {
        "MAC": macs * table.mac,
        "LRF": (fills_a * (1 + folds_b) + fills_b * (1 + folds_a)) * table.lrf,
        "RF": macs * (table.rf_read + table.rf_write) + outputs * (table.rf_write - table.rf_read),
        "SMEM": moved[0] * table.buffer_read
        + moved[1] * table.meta_bit_read
        + fetched * table.buffer_write
        + fetched_bits * table.meta_bit_write,
        "DRAM": (fetched + outputs) * table.dram,
    }
    return {name: value * 1e-6 for name, value in parts.items()}


def _dram_reads(core: DualSidedCore, p: _Product) -> tuple[float, float]:
    """(values, mask bits) read from DRAM: one operand in tiles that fit the buffer, the other streaming past each."""
    a, b = p.M * p.K * p.d_a, p.K * p.N * p.d_b
    mask_a, mask_b = _mask_bits(core, p)
    found = []
    for rows in doublings(p.ta * p.over_m, p.M):
        for columns in doublings(p.tb * p.over_n, p.N):
            # Any part of a compressed operand may hold all of its nonzeros; room is kept for that.
            held = min(rows * p.K, a) + min(columns * p.K, b)
            if held > core.buffer_words and (rows > p.ta * p.over_m or columns > p.tb * p.over_n):
                continue
            row_tiles, column_tiles = -(-p.M // rows), -(-p.N // columns)
            for fetch_a, fetch_b in (
                (1, 1 if column_tiles == 1 else row_tiles),
                (1 if row_tiles == 1 else column_tiles, 1),
            ):
                found.append((a * fetch_a + b * fetch_b, mask_a * fetch_a + mask_b * fetch_b))
    return min(found)
