"""Geometry of sliding windows: explicit and automatic padding, and output lengths, shared by Conv and the pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node


@dataclass(frozen=True)
class Windows:
    """Per spatial axis: kernel, stride, dilation, padding before and after, and whether lengths round up."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    ceil: bool

    @property
    def extent(self) -> tuple[int, ...]:
        """Input positions that one window spans, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def symmetric(self) -> bool:
        return self.before == self.after

    def pad(self, x: Tensor, value: float) -> Tensor:
        """`x` with the explicit padding written out."""
        return functional.pad(x, _torch_order(self.before, self.after), value=value)

    def overhang(self, lengths: Sequence[int]) -> tuple[int, ...]:
        """Positions beyond the padded input that rounding up reaches, per axis.

        A last window that would start beyond the input and its leading padding is dropped, as in the ONNX standard.
        """
        if not self.ceil:
            return (0,) * len(self.kernel)
        result = []
        for axis, length in enumerate(lengths):
            padded = length + self.before[axis] + self.after[axis]
            stride, extent = self.stride[axis], self.extent[axis]
            windows = -(-(padded - extent) // stride) + 1
            if (windows - 1) * stride >= length + self.before[axis]:
                windows -= 1
            result.append(max(0, (windows - 1) * stride + extent - padded))
        return tuple(result)


def windows(node: Node, lengths: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a Conv or pooling node over spatial `lengths`."""
    rank = len(kernel)
    if len(lengths) != rank:
        raise node.refusal(f"a {rank}-D window over {len(lengths)} spatial axes")
    stride = node.integers("strides", (1,) * rank)
    dilation = node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (0,) * (2 * rank))
    mode = node.text("auto_pad", "NOTSET")
    ceil = bool(node.integer("ceil_mode", 0))
    before, after = pads[:rank], pads[rank:]
    if mode == "VALID":
        before, after = [0] * rank, [0] * rank
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        if set(dilation) != {1}:
            raise node.refusal(f"auto_pad={mode} with dilations, which runtimes read differently")
        total = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(lengths, stride, kernel, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        ceil = False
    elif mode != "NOTSET":
        raise node.refusal(f"auto_pad={mode}")
    if any(p < 0 for p in (*before, *after)):
        raise node.refusal("negative padding")
    return Windows(tuple(kernel), tuple(stride), tuple(dilation), tuple(before), tuple(after), ceil)


def extend(x: Tensor, overhang: Sequence[int], value: float) -> Tensor:
    """`x` with `overhang` more positions after each spatial axis."""
    return functional.pad(x, _torch_order((0,) * len(overhang), overhang), value=value) if any(overhang) else x


def _torch_order(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Padding as torch lists it: last axis first, before and after interleaved."""
    return [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
