"""`Matrix`: an operator as a matrix product, groups x (M x K) times (K x N), with the bytes at its border."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

BYTES = {"int8": 1, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Matrix:
    """M output rows, K reduction, N output columns (positions x batch), `groups` times over.

    `inputs`, `outputs`, `residuals`: values at the border; the input is counted before im2col.
    `weighted`: the M x K operand is a stored weight; otherwise both operands are activations.
    `window`: (kh, kw); `stride`: down and right; `out_hw`: output rows and columns of a convolution, (1, N)
    for a matrix product.
    """

    M: int
    K: int
    N: int
    groups: int
    inputs: int
    outputs: int
    residuals: int = 0
    weighted: bool = True
    window: tuple[int, int] = (1, 1)
    out_hw: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)

    @property
    def macs(self) -> int:
        return self.groups * self.M * self.K * self.N

    @property
    def weights(self) -> int:
        return self.groups * self.M * self.K if self.weighted else 0


def conv_matrix(
    weight: tuple[int, int, int, int],
    image: tuple[int, int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    residuals: int = 0,
) -> Matrix:
    """A convolution with weights (Cout, Cin/g, kh, kw) on (b, Cin, H, W); pads are top, left, bottom, right."""
    c_out, c_in, kh, kw = weight
    batch, channels, height, width = image
    out_h = (height + pads[0] + pads[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width + pads[1] + pads[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    groups = channels // c_in
    columns = batch * out_h * out_w
    return Matrix(
        M=c_out // groups,
        K=c_in * kh * kw,
        N=columns,
        groups=groups,
        inputs=batch * channels * height * width,
        outputs=c_out * columns,
        residuals=residuals,
        window=(kh, kw),
        out_hw=(out_h, out_w),
        stride=stride,
    )


def transposed_conv_matrix(
    weight: tuple[int, ...], image: tuple[int, ...], out: tuple[int, ...], groups: int, *, weighted: bool = True
) -> Matrix:
    """A transposed convolution: each position of the input (b, Cin, H, W) becomes a window of the output.

    `weight`: (Cin, Cout/g, kh, kw).
    """
    return Matrix(
        M=prod(weight[1:]),
        K=image[1] // groups,
        N=image[0] * prod(image[2:]),
        groups=groups,
        inputs=prod(image),
        outputs=prod(out),
        weighted=weighted,
        out_hw=(prod(image[2:-1]), image[-1]),
    )


def product_matrix(outputs: int, inputs: int, columns: int, *, groups: int = 1, weighted: bool = True) -> Matrix:
    """A matrix product with `outputs` rows of `inputs` values; `groups` of them without shared weights."""
    return Matrix(
        outputs,
        inputs,
        columns,
        groups,
        inputs=groups * inputs * columns + (0 if weighted else groups * outputs * inputs),
        outputs=groups * outputs * columns,
        weighted=weighted,
        out_hw=(1, columns),
    )
