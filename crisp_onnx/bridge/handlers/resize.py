"""Resize, one axis after the other: every output position is a weighted sum of a few input positions (taps).

Nearest has one tap, linear two, cubic four. Coordinates are computed in float32, as ONNX Runtime does, so that ties
fall to the same side. Antialiasing is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.bridge.value import Host


class _Axis(NamedTuple):
    """One axis to resize: the factor, the new length, and the region to crop to as fractions of the old one."""

    axis: int
    scale: float
    length: int
    start: float
    end: float


def resize(
    node: Node, x: Tensor, roi: Host | None = None, scales: Host | None = None, sizes: Host | None = None
) -> Tensor:
    mode, transform = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    plan = [
        a
        for a in _plan(node, x, roi if transform == _CROP else None, scales, sizes)
        if a.scale != 1.0 or a.length != x.shape[a.axis] or (a.start, a.end) != (0.0, 1.0)
    ]
    if node.integer("antialias", 0) and mode != "nearest" and any(a.scale < 1.0 for a in plan):
        raise node.refusal("antialias=1 while shrinking")
    if transform not in _COORDINATES:
        raise node.refusal(f"coordinate_transformation_mode={transform}")
    if transform == "align_corners" and any(a.length != x.shape[a.axis] * a.scale for a in plan):
        raise node.refusal("align_corners with a fractional output length, which runtimes read differently")
    if mode == "linear" and transform == "half_pixel" and _torch_has(x, plan):
        return functional.interpolate(
            x, [a.length for a in plan], mode=("linear", "bilinear", "trilinear")[len(plan) - 1], align_corners=False
        )
    for axis in plan:
        x = _along(node, x, axis, mode, transform)
    return x


def _plan(node: Node, x: Tensor, roi: Host | None, scales: Host | None, sizes: Host | None) -> list[_Axis]:
    axes = [a % x.ndim for a in node.integers("axes", tuple(range(x.ndim)))]
    region = [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.values else list(roi.values)
    starts, ends = region[: len(axes)], region[len(axes) :]
    if scales is not None and scales.values:
        factors = [float(s) for s in scales.values]
        old = [x.shape[a] * (end - start) for a, start, end in zip(axes, starts, ends, strict=True)]
        lengths = [int(n * s) for n, s in zip(old, factors, strict=True)]
    elif sizes is not None and sizes.values:
        factors, lengths = _from_sizes(node, [x.shape[a] for a in axes], sizes.values)
    else:
        raise node.refusal("neither scales nor sizes are given")
    return [_Axis(*row) for row in zip(axes, factors, lengths, starts, ends, strict=True)]


def _from_sizes(node: Node, old: Sequence[int], sizes: Sequence[int]) -> tuple[list[float], list[int]]:
    """Factors and new lengths for the wanted sizes."""
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    ratios = [size / length for length, size in zip(old, sizes, strict=True)]
    if policy == "stretch":
        return ratios, list(sizes)
    if policy not in ("not_larger", "not_smaller"):
        raise node.refusal(f"keep_aspect_ratio_policy={policy}")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [scale] * len(old), [int(scale * length + 0.5) for length in old]


def _torch_has(x: Tensor, plan: Sequence[_Axis]) -> bool:
    """Whether torch's own interpolation scales exactly these axes by exactly these factors."""
    spatial = [a.axis for a in plan] == list(range(2, x.ndim)) and x.ndim in (3, 4, 5)
    return spatial and all(a.length == x.shape[a.axis] * a.scale for a in plan)


def _along(node: Node, x: Tensor, axis: _Axis, mode: str, transform: str) -> Tensor:
    length = x.shape[axis.axis]
    places = torch.arange(axis.length, dtype=torch.float32, device=x.device)
    where = _COORDINATES[transform](places, axis, length)
    if mode == "nearest":
        taps = [_nearest(node, where)]
        weights: list[Tensor] = []
    elif mode == "linear":
        taps, weights = _linear(where.clamp(0, length - 1))
    elif mode == "cubic":
        taps, weights = _cubic(where, node.number("cubic_coeff_a", -0.75))
    else:
        raise node.refusal(f"mode={mode}")
    if node.integer("exclude_outside", 0) and mode == "cubic":
        weights = [torch.where((t < 0) | (t >= length), 0.0, w) for t, w in zip(taps, weights, strict=True)]
        total = reduce(torch.add, weights)
        weights = [w / total for w in weights]
    shape = [-1 if a == axis.axis else 1 for a in range(x.ndim)]
    sources = [x.index_select(axis.axis, t.long().clamp(0, length - 1)) for t in taps]
    scaled = [s * w.to(x.dtype).reshape(shape) for s, w in zip(sources, weights, strict=False)]
    y = reduce(torch.add, scaled) if scaled else sources[0]
    if transform != _CROP:
        return y
    outside = ((where < 0) | (where > length - 1)).reshape(shape)
    return torch.where(outside, node.number("extrapolation_value", 0.0), y)


def _nearest(node: Node, where: Tensor) -> Tensor:
    mode = node.text("nearest_mode", "round_prefer_floor")
    if mode == "round_prefer_floor":
        return torch.ceil(where - 0.5)
    if mode == "round_prefer_ceil":
        return torch.floor(where + 0.5)
    if mode == "floor":
        return torch.floor(where)
    if mode == "ceil":
        return torch.ceil(where)
    raise node.refusal(f"nearest_mode={mode}")


def _linear(where: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    low = torch.floor(where)
    return [low, low + 1], [1 - (where - low), where - low]


def _cubic(where: Tensor, a: float) -> tuple[list[Tensor], list[Tensor]]:
    """Keys' cubic convolution (IEEE ASSP 29, 1981, equation 4)."""
    low = torch.floor(where)
    t = where - low
    weights = [
        ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
        ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a,
    ]
    return [low - 1, low, low + 1, low + 2], weights


def _half_pixel(places: Tensor, axis: _Axis, length: int) -> Tensor:
    return (places + 0.5) / axis.scale - 0.5


def _half_pixel_symmetric(places: Tensor, axis: _Axis, length: int) -> Tensor:
    adjustment = axis.length / (axis.scale * length)
    return length / 2 * (1 - adjustment) + (places + 0.5) / axis.scale - 0.5


def _pytorch_half_pixel(places: Tensor, axis: _Axis, length: int) -> Tensor:
    return (places + 0.5) / axis.scale - 0.5 if axis.length > 1 else torch.zeros_like(places)


def _align_corners(places: Tensor, axis: _Axis, length: int) -> Tensor:
    return places * (length - 1) / (axis.length - 1) if axis.length > 1 else torch.zeros_like(places)


def _asymmetric(places: Tensor, axis: _Axis, length: int) -> Tensor:
    return places / axis.scale


def _crop_and_resize(places: Tensor, axis: _Axis, length: int) -> Tensor:
    if axis.length == 1:
        return torch.full_like(places, (axis.start + axis.end) * (length - 1) / 2)
    return axis.start * (length - 1) + places * (axis.end - axis.start) * (length - 1) / (axis.length - 1)


_CROP = "tf_crop_and_resize"
_COORDINATES = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    _CROP: _crop_and_resize,
}

RESIZE = {"Resize": Operator(resize, host=(1, 2, 3))}
