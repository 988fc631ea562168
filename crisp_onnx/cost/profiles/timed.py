"""`TimedLayer`: one layer of a vendor's profile, with as much of its shape as the tool tells."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod

from crisp_onnx.lowering.layers import product_kind
from crisp_onnx.lowering.matrix import Matrix, product_matrix
from crisp_onnx.lowering.schema import Design, OpKind
from crisp_onnx.reading import shown

Dims = tuple[int, ...]
MOST = 1 << 48
"""Of a side of a layer's matrix."""


@dataclass(frozen=True)
class TimedLayer:
    """`time_us` of one run. `matrix`: where shapes are known; otherwise `moved_bytes` stand for it, or `array_us` and
    `memory_us`, the times that the tool says array and memory take.

    `dtype`: of its operands, empty where the tool does not say. `sparse`: run by kernels that skip 2:4 zeros.
    """

    name: str
    kind: OpKind
    time_us: float
    matrix: Matrix | None = None
    moved_bytes: int = 0
    array_us: float = 0.0
    memory_us: float = 0.0
    dtype: str = ""
    sparse: bool = False

    def __post_init__(self) -> None:
        """Refuse with `ValueError` what no layer takes or has."""
        if not (isfinite(self.time_us) and self.time_us > 0):
            raise ValueError(f"layer {shown(self.name)!r} takes {self.time_us:g} us, and a time is a positive number")
        counts = (self.moved_bytes, self.array_us, self.memory_us)
        if not all(isfinite(count) and count >= 0 for count in counts):
            raise ValueError(f"layer {shown(self.name)!r} has bytes or a part of its time that is negative or infinite")
        if self.matrix is not None:
            sizes = (self.matrix.M, self.matrix.K, self.matrix.N, self.matrix.groups, *self.matrix.stride)
            if min(sizes) < 1 or max(sizes) > MOST:
                raise ValueError(f"layer {shown(self.name)!r} has a side of the size 0, or one that is not possible")


@dataclass(frozen=True)
class Profile:
    """What one tool measured. `left_out`: how many of its rows are no layer, or have no shape.

    `design`: the only one that its tool is for. `of_networks`: rows are not layers but whole networks, of which only
    their memory tells a rate.
    """

    tool: str
    layers: tuple[TimedLayer, ...]
    left_out: int = 0
    design: Design | None = None
    of_networks: bool = False


def convolution(image: Dims, weight: Dims, out: Dims, groups: int, stride: tuple[int, int] = (1, 1)) -> Matrix:
    """From the shapes (N, C, H, W), (Cout, Cin / groups, kh, kw) and (N, Cout, OH, OW)."""
    return Matrix(
        M=weight[0] // groups,
        K=prod(weight[1:]),
        N=out[0] * prod(out[2:]),
        groups=groups,
        inputs=prod(image),
        outputs=prod(out),
        window=(prod(weight[2:-1]), weight[-1]),
        out_hw=(prod(out[2:-1]), out[-1]),
        stride=stride,
    )


def dense(name: str, time_us: float, inputs: int, outputs: int, columns: int, dtype: str) -> TimedLayer:
    """A matrix product with a stored weight."""
    matrix = product_matrix(outputs, inputs, columns)
    return TimedLayer(name, product_kind(matrix, "Gemm"), time_us, matrix, dtype=dtype)
