"""`Pattern`: N of M neighbours kept, V rows sharing the choice, inside square blocks of side B."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crisp_onnx.errors import CrispError

VECTOR_ROWS = (1, 2, 4, 8, 16)
MAX_M = 16


@dataclass(frozen=True)
class Pattern:
    """A hybrid pattern over a weight read as a matrix (Cout, K), input channel fastest.

    Raises:
        CrispError: the four numbers cannot go together.
    """

    n: int = 2
    m: int = 4
    block: int = 16
    vector_rows: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= MAX_M:
            raise CrispError(
                f"Pattern {self.n}:{self.m} keeps {self.n} of every {self.m} weights, which is not possible. "
                f"Use N:M with 1 <= N <= M <= {MAX_M}, for example 2:4."
            )
        if self.block < 1 or self.block % self.m:
            raise CrispError(f"Block {self.block} is not a multiple of M = {self.m}. Use for example {4 * self.m}.")
        if self.vector_rows not in VECTOR_ROWS or self.block % self.vector_rows:
            fitting = ", ".join(str(v) for v in VECTOR_ROWS if self.block % v == 0)
            raise CrispError(f"{self.vector_rows} vector rows do not fit block {self.block}. Use one of {fitting}.")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def density(self) -> float:
        """Share of the weights that N:M keeps inside a kept block."""
        return self.n / self.m

    @property
    def index_bits(self) -> int:
        """Bits of one stored place inside its group of M."""
        return 1 if self.m <= 2 else 2 if self.m <= 4 else 4

    @property
    def row_groups(self) -> int:
        """G: groups of V rows in a block."""
        return self.block // self.vector_rows

    @property
    def kept_columns(self) -> int:
        """Z: columns kept in a row of a block."""
        return self.block * self.n // self.m

    def block_rows(self, shape: tuple[int, ...]) -> int:
        """R for a weight (Cout, Cin, kh, kw)."""
        return -(-shape[0] // self.block)

    def block_columns(self, shape: tuple[int, ...]) -> int:
        """C for a weight (Cout, Cin, kh, kw)."""
        return -(-(shape[1] * shape[2] * shape[3]) // self.block)

    def bytes(self, shape: tuple[int, ...], kept: int, value_bytes: int = 4) -> int:
        """Bytes of values, indices and blocks of a layer that keeps `kept` blocks a block row (design, section 3)."""
        slots = self.block_rows(shape) * kept
        index_bytes = -(-self.kept_columns * self.index_bits // 8)
        groups = slots * self.row_groups
        return groups * self.kept_columns * self.vector_rows * value_bytes + groups * index_bytes + slots * 4


def parse_pattern(text: str, *, block: int = 16, vector_rows: int = 8) -> Pattern:
    """`"2:4"` with block and vector rows.

    Raises:
        CrispError: not of the form N:M, or numbers that cannot go together.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*:\s*([0-9]{1,9})\s*", text)
    if not match:
        raise CrispError(f"Pattern {text!r} is not of the form N:M. Use for example 2:4 (two of four kept).")
    return Pattern(int(match[1]), int(match[2]), block, vector_rows)
