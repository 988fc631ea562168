"""Pad: a constant around the tensor, or its own elements mirrored, repeated or wrapped."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host


def pad(node: Node, x: Tensor, pads: Host, fill: Host | None = None, axes: Host | None = None) -> Tensor:
    chosen = [int(a) % x.ndim for a in axes.values] if axes is not None else list(range(x.ndim))
    if len(pads.values) != 2 * len(chosen):
        raise node.refusal(f"{len(pads.values)} pads for {len(chosen)} axes")
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = pads.values[place], pads.values[place + len(chosen)]
    mode = node.text("mode", "constant")
    if mode == "constant":
        order = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
        return functional.pad(x, order, value=fill.values[0] if fill is not None and fill.values else 0)
    for axis in range(x.ndim):
        if before[axis] or after[axis]:
            x = x.index_select(axis, _sources(node, mode, x, axis, before[axis], after[axis]))
    return x


def _sources(node: Node, mode: str, x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Positions along `axis` from which the padded positions take their elements."""
    length = x.shape[axis]
    places = torch.arange(-before, length + after, device=x.device)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    if mode == "reflect":
        period = max(2 * (length - 1), 1)
        folded = places % period
        return torch.minimum(folded, period - folded) if length > 1 else torch.zeros_like(places)
    raise node.refusal(f"mode={mode}")


PAD = {"Pad": Operator(pad, host=(1, 2, 3))}
