"""How often weights and inputs are read from DRAM, by what of them fits in the buffer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Operand:
    """One side of a product: `count` rows or columns of `each` bytes, `total` bytes as stored, and tiles of `unit`.

    Any part of a compressed operand may hold all of its nonzeros; room is kept for that.
    """

    count: int
    each: float
    total: float
    unit: int

    def held(self, tile: int) -> float:
        return min(tile * self.each, self.total)

    def tiles(self) -> Iterator[int]:
        """unit, 2 units, 4 units, ... up to the first that covers all."""
        size = self.unit
        while True:
            yield size
            if size >= self.count:
                return
            size *= 2


@dataclass(frozen=True)
class Reuse:
    """In how many tiles each operand is cut, and how often it is read."""

    weight_tiles: int
    input_tiles: int
    weight_reads: int
    input_reads: int
    columns: int = 0


ONCE = Reuse(1, 1, 1, 1)


def in_halves(weights: float, inputs: float, half: float) -> Reuse:
    """Each operand fills at most `half` of a double buffer; the other is read once for each of its tiles."""
    weight_tiles, input_tiles = max(1, ceil(weights / half)), max(1, ceil(inputs / half))
    if weights + inputs * weight_tiles <= inputs + weights * input_tiles:
        return Reuse(weight_tiles, input_tiles, 1, weight_tiles)
    return Reuse(weight_tiles, input_tiles, input_tiles, 1)


def shared(rows: Operand, columns: Operand, room: float, units: Sequence[int]) -> list[Reuse]:
    """Tiles of both operands lie in the buffer together; one is read once, the other once for each tile of the first.

    Tiles are powers of two of what the array takes at a time. `units`: output columns that one load of the registers
    may serve, the most first; with fewer, weights are loaded more often, but more of them may fit. One answer for each.
    The smallest tiles of the last are taken even where they do not fit: K is cut then.
    """
    found: list[Reuse] = []
    for unit in units:
        cut = Operand(columns.count, columns.each, columns.total, unit)
        least = unit == units[-1]
        if not least and rows.held(rows.unit) + cut.held(unit) > room:
            continue
        tall = _largest(rows, room - cut.held(unit))
        wide = _largest(cut, room - rows.held(rows.unit))
        high, broad = -(-rows.count // tall), -(-columns.count // wide)
        once_w = Reuse(high, -(-columns.count // unit), 1, high, unit)
        once_i = Reuse(-(-rows.count // rows.unit), broad, broad if rows.count > rows.unit else 1, 1, unit)
        found.append(min(once_w, once_i, key=lambda r: r.weight_reads * rows.total + r.input_reads * columns.total))
    return found


def _largest(operand: Operand, room: float) -> int:
    """The largest tile that fits, at least the smallest."""
    best = operand.unit
    for tile in operand.tiles():
        if operand.held(tile) > room:
            break
        best = tile
    return best
