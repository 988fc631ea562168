"""Conv and ConvTranspose over one to three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.handlers.windows import windows
from crisp_onnx.bridge.node import Node, Operator

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = tuple(weight.shape[2:])
    _check_kernel(node, kernel)
    over = windows(node, x.shape[2:], kernel)
    padding = over.before
    if not over.symmetric:
        x, padding = over.pad(x, 0.0), (0,) * len(kernel)
    groups = node.integer("group", 1)
    return _CONV[len(kernel)](x, weight, bias, over.stride, padding, over.dilation, groups)


def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = tuple(weight.shape[2:])
    rank = len(kernel)
    _check_kernel(node, kernel)
    stride = node.integers("strides", (1,) * rank)
    dilation = node.integers("dilations", (1,) * rank)
    groups = node.integer("group", 1)
    extra = node.integers("output_padding", (0,) * rank)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[2:], stride, kernel, dilation, strict=True)]
    before, after = _cropping(node, x.shape[2:], full, stride, extra)
    plain = before == [a + e for a, e in zip(after, extra, strict=True)] and all(b >= 0 for b in before)
    if plain and all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        return _TRANSPOSED[rank](x, weight, bias, stride, before, extra, groups, dilation)
    y = _TRANSPOSED[rank](x, weight, None, stride, 0, 0, groups, dilation)
    y = functional.pad(y, [-crop for pair in zip(reversed(before), reversed(after), strict=True) for crop in pair])
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _cropping(
    node: Node, lengths: Sequence[int], full: Sequence[int], stride: Sequence[int], extra: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Positions to cut from the full transposed convolution, before and after each axis; negative ones are zeros."""
    rank = len(full)
    mode = node.text("auto_pad", "NOTSET")
    wanted = node.integers("output_shape", ())[-rank:]
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.refusal(f"auto_pad={mode}")
    if not wanted and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(lengths, stride, strict=True)]
    if not wanted:
        pads = node.integers("pads", (0,) * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        return pads[:rank], [p - e for p, e in zip(pads[rank:], extra, strict=True)]
    before, after = [], []
    for length, want, add in zip(full, wanted, extra, strict=True):
        cut = max(0, length + add - want)
        first = cut // 2 if mode == "SAME_UPPER" else cut - cut // 2
        before.append(first)
        after.append(length - want - first)
    return before, after


def _check_kernel(node: Node, kernel: tuple[int, ...]) -> None:
    if len(kernel) not in _CONV:
        raise node.refusal(f"{len(kernel)} spatial axes")
    if tuple(node.integers("kernel_shape", kernel)) != kernel:
        raise node.refusal(f"kernel_shape {node.integers('kernel_shape', kernel)} with a weight of kernel {kernel}")


CONV = {"Conv": Operator(conv), "ConvTranspose": Operator(conv_transpose)}
