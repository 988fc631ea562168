"""Weight-stationary tensor cores of the Sparseloop artifact: dense, 2:4, flexible n:m, compressed activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2
from typing import Literal

from crisp_onnx.lowering.layer_sparsity import aligned_bits

Coding = Literal["none", "offset", "run_length"]


@dataclass(frozen=True)
class EnergyPerAction:
    """pJ per action: a MAC, a local register value, an accumulator, a buffer value, a metadata bit, a DRAM value."""

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
class TensorCore:
    """`rows` x `lanes` MACs; weights stay in local registers while `columns` output columns pass.

    `groups`: group sizes m of the n:m patterns it skips (empty: dense only). `buffer_words`, `words_per_cycle`: the
    shared buffer and its read port. `compresses_activations`: zeros of the activations are neither stored nor moved,
    one bit a position tells where they are. One word is one value.
    """

    name: str
    rows: int
    lanes: int
    columns: int
    buffer_words: int
    words_per_cycle: int
    word_bits: int
    groups: tuple[int, ...]
    coding: Coding
    compresses_activations: bool
    energy: EnergyPerAction


@dataclass(frozen=True)
class CoreRun:
    """Result for one matrix product: cycles of the whole and of the MACs alone, energy in uJ by component."""

    cycles: float
    mac_cycles: int
    energy_uj: dict[str, float]
    bound: Literal["compute", "onchip"]

    @property
    def total_uj(self) -> float:
        return sum(self.energy_uj.values())


def metadata_bits(coding: Coding, keep: int, group: int) -> int:
    """Bits per kept value as stored on chip, aligned to 1, 2, 4 or 8: its offset, or the run of zeros before it."""
    if coding == "none" or keep == group:
        return 0
    states = group if coding == "offset" else max(2, group - keep)
    # Two bits are the least the run-length designs spend, so that 2:4 fits the lanes of the fixed 2:4 core.
    return aligned_bits(max(2, ceil(log2(states))))


def runnable(core: TensorCore, keep: int, group: int) -> tuple[int, int]:
    """The pattern the core runs n:m weights as: the very one, a coarser one that holds it, or dense (1, 1)."""
    if keep >= group or not core.groups:
        return 1, 1
    fitting = [m for m in core.groups if Fraction(keep, group) <= Fraction(2, m)]
    return (2, max(fitting)) if fitting else (1, 1)


@dataclass(frozen=True)
class _Product:
    """A product as the core runs it: sizes padded to its lanes, densities, and the array's own cycles."""

    M: int
    N: int
    kept: int
    span: int
    bits: int
    density: float
    passes: int

    @property
    def weights(self) -> int:
        return self.M * self.kept

    @property
    def activations(self) -> int:
        return self.span * self.N


def run_tensor_core(
    core: TensorCore, M: int, K: int, N: int, *, nm: tuple[int, int] | None = None, activation_density: float = 1.0
) -> CoreRun:
    """Weights (M, K) with pattern n:m (`None`: dense) times activations (K, N) of `activation_density`.

    The fastest mapping is taken and of equally fast ones the least energy.
    Source: Sparseloop (MICRO 2022), figure 15; the buffer words per cycle are those of its designs.
    """
    keep, group = runnable(core, *(nm or (1, 1)))
    kept = -(-K * keep // (core.lanes * group)) * core.lanes
    product = _Product(
        M,
        N,
        kept,
        kept * group // keep,
        metadata_bits(core.coding, keep, group),
        activation_density if core.compresses_activations else 1.0,
        -(-M // core.rows),
    )
    runs = [_run(core, product, columns, reads) for columns, reads in _mappings(core, product)]
    return min(runs, key=lambda run: (run.cycles, run.total_uj))


def _run(core: TensorCore, product: _Product, columns: int, reads: tuple[int, int]) -> CoreRun:
    """`columns`: output columns one load of the registers serves; `reads`: fetches of weights and activations."""
    p, energy = product, core.energy
    steps = p.kept // core.lanes
    mac_cycles = p.passes * steps * p.N
    loads = p.weights * -(-p.N // columns)
    bitmask = p.activations if core.compresses_activations else 0
    read_words = p.passes * p.activations * p.density + loads
    read_bits = loads * p.bits + p.passes * bitmask
    fills = p.weights * reads[0] + p.activations * p.density * reads[1]
    fill_bits = p.weights * p.bits * reads[0] + bitmask * reads[1]
    macs, outputs = p.weights * p.N, p.M * p.N
    updates = outputs * steps
    parts = {
        "MAC": macs * energy.mac,
        "LRF": (macs + loads) * energy.lrf * (1 + p.bits / core.word_bits),
        "RF": updates * energy.rf_write + (updates - outputs) * energy.rf_read + outputs * energy.rf_write,
        "SMEM": read_words * energy.buffer_read
        + read_bits * energy.meta_bit_read
        + fills * energy.buffer_write
        + fill_bits * energy.meta_bit_write,
        "DRAM": (fills + outputs) * energy.dram,
    }
    moved = (read_words + read_bits / core.word_bits) / core.words_per_cycle
    return CoreRun(
        max(mac_cycles, moved),
        mac_cycles,
        {name: value * 1e-6 for name, value in parts.items()},
        "onchip" if moved > mac_cycles else "compute",
    )


def _mappings(core: TensorCore, product: _Product) -> Iterator[tuple[int, tuple[int, int]]]:
    """(columns per register load, DRAM fetches of weights and activations) of every tiling that fits the buffer.

    A tile of weight rows and a tile of activation columns lie in the buffer together, each a power of two of the
    array's own size; one of the operands is fetched once, the other once per tile of the first.
    """
    for columns in (core.columns, core.columns // 2):
        for row_tile in doublings(core.rows, product.M):
            for column_tile in doublings(columns, product.N):
                # Any part of a compressed operand may hold all of its nonzeros; room is kept for that.
                columns_held = min(column_tile * product.span, product.activations * product.density)
                held = min(row_tile, product.M) * product.kept + columns_held
                if held > core.buffer_words and (row_tile > core.rows or column_tile > core.columns // 2):
                    continue
                row_tiles, column_tiles = -(-product.M // row_tile), -(-product.N // column_tile)
                yield columns, (1, 1 if column_tiles == 1 else row_tiles)
                yield columns, (1 if row_tiles == 1 else column_tiles, 1)


def doublings(least: int, whole: int) -> Iterator[int]:
    """least, 2 least, ... up to the first that covers `whole`."""
    size = least
    while True:
        yield size
        if size >= whole:
            return
        size *= 2
