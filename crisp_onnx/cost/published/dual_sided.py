"""Dual-sided sparse tensor cores: outer products that skip zeros of weights and activations alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from crisp_onnx.lower.expectation import expected_folds


@dataclass(frozen=True)
class DualEnergy:
    """pJ per action; `lrf` per value of the line buffers, `buffer_*` per value, `meta_bit_*` per bit, `dram` per value."""

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
class _Mapping:
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
    runs = [
        _run(core, M, K, N, weight_density, activation_density, mapping)
        for mapping in _mappings(core, tile, arrangement)
    ]
    return min(runs, key=lambda run: (run.cycles, run.total_uj))


def _mappings(
    core: DualSidedCore, tile: tuple[int, int] | None, arrangement: tuple[int, int] | None
) -> Iterator[_Mapping]:
    for ta, tb in (tile,) if tile else core.tiles:
        for over_m, over_n in (arrangement,) if arrangement else core.arrangements:
            yield _Mapping(ta, tb, over_m, over_n)


def _run(core: DualSidedCore, M: int, K: int, N: int, dA: float, dB: float, m: _Mapping) -> DualRun:
    if fold_ratio(core, dA, dB, (m.ta, m.tb)) > core.dense_above:
        dA = dB = 1.0
    folds_a = expected_folds(m.ta, dA, core.granule_a)
    folds_b = expected_folds(m.tb, dB, core.granule_b)
    tiles_m, tiles_n = -(-M // m.ta), -(-N // m.tb)
    passes = -(-tiles_m // m.over_m) * -(-tiles_n // m.over_n)
    mac_cycles = K * passes * folds_a * folds_b
    macs = M * K * N * dA * dB
    trips = 1 if core.accumulate_k is None else -(-K // core.accumulate_k)
    reads_a, reads_b = tiles_n / m.over_n, tiles_m / m.over_m
    bits = _mask_bits(core, M * K, dA, core.granule_a, m.ta) * reads_a
    bits += _mask_bits(core, K * N, dB, core.granule_b, m.tb) * reads_b
    words = M * K * dA * reads_a + K * N * dB * reads_b
    onchip = (words + M * N * (trips - 1) + bits / core.word_bits) / core.words_per_cycle
    fills = M * N * trips if trips > 1 else 0
    accumulators = (macs + fills) / core.units / core.accumulator_words_per_cycle
    times: dict[Literal["compute", "accumulator", "onchip"], float]
    times = {"compute": mac_cycles, "accumulator": accumulators, "onchip": onchip}
    bound = max(times, key=lambda key: times[key])
    energy = _energy(core, M, K, N, dA, dB, m, words, bits, macs) if core.energy else {}
    return DualRun(times[bound], mac_cycles, energy, bound, (m.ta, m.tb))


def _mask_bits(core: DualSidedCore, values: int, density: float, granule: int, tile: int) -> float:
    """Bits that say where the nonzeros of an operand are; none when it is dense."""
    if density >= 1:
        return values * (1 + 1 / granule) if core.vector_bits == "granule" else 0.0
    vector = granule if core.vector_bits == "granule" else tile
    return values * (1 - (1 - density) ** granule) + values / vector


def _energy(
    core: DualSidedCore, M: int, K: int, N: int, dA: float, dB: float, m: _Mapping, words: float, bits: float, macs: float
) -> dict[str, float]:
    """uJ by component. Line buffers: values are filled once per unit and read once for every fold of the other side."""
    table = core.energy
    if table is None:
        return {}
    folds_a = expected_folds(m.ta, dA, core.granule_a)
    folds_b = expected_folds(m.tb, dB, core.granule_b)
    fills_a, fills_b = M * K * dA * -(-N // m.tb), K * N * dB * -(-M // m.ta)
    fetched, fetched_bits = _dram_reads(core, M, K, N, dA, dB, m)
    parts = {
        "MAC": macs * table.mac,
        "LRF": (fills_a * (1 + folds_b) + fills_b * (1 + folds_a)) * table.lrf,
        "RF": macs * (table.rf_read + table.rf_write) + M * N * (table.rf_write - table.rf_read),
        "SMEM": words * table.buffer_read
        + bits * table.meta_bit_read
        + fetched * table.buffer_write
        + fetched_bits * table.meta_bit_write,
        "DRAM": (fetched + M * N) * table.dram,
    }
    return {name: value * 1e-6 for name, value in parts.items()}


def _dram_reads(
    core: DualSidedCore, M: int, K: int, N: int, dA: float, dB: float, m: _Mapping
) -> tuple[float, float]:
    """(values, mask bits) read from DRAM: one operand in tiles that fit the buffer, the other streaming past each."""
    a, b = M * K * dA, K * N * dB
    bits_a = _mask_bits(core, M * K, dA, core.granule_a, m.ta)
    bits_b = _mask_bits(core, K * N, dB, core.granule_b, m.tb)
    best: tuple[float, float] | None = None
    rows = m.ta * m.over_m
    while True:
        columns = m.tb * m.over_n
        while True:
            # Any part of a compressed operand may hold all of its nonzeros; room is kept for that.
            held = min(rows * K, a) + min(columns * K, b)
            if held <= core.buffer_words or (rows == m.ta * m.over_m and columns == m.tb * m.over_n):
                row_tiles, column_tiles = -(-M // rows), -(-N // columns)
                for fetch_a, fetch_b in (
                    (1, 1 if column_tiles == 1 else row_tiles),
                    (1 if row_tiles == 1 else column_tiles, 1),
                ):
                    found = (a * fetch_a + b * fetch_b, bits_a * fetch_a + bits_b * fetch_b)
                    best = found if best is None or found < best else best
            if columns >= N:
                break
            columns *= 2
        if rows >= M:
            break
        rows *= 2
    return best
