"""The random blocks that synthetic networks are made of: each as layers stand together in real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import numpy_helper

from crisp_onnx.cost.calibrate.builder import MAX_LAYER_MACS, Builder, affordable, random_width

MOST_GROUPS = 8
MOST_TOKENS, MOST_ATTENDED = 3200, 800
MAX_LRN_VALUES = 300_000  # tens of times slower than anything else of its size


def random_block(b: Builder) -> None:
    """One random block that keeps every layer affordable."""
    build, fits = BLOCKS[int(b.rng.integers(len(BLOCKS)))]
    stride = 2 if b.side > 6 and b.rng.random() < 0.5 else 1
    (build if fits(b) else _plain)(b, stride)


def _plain(b: Builder, stride: int) -> None:
    b.conv(affordable(b, 3, -(-b.side // stride)), 3, stride)


def _point(b: Builder, stride: int) -> None:
    b.conv(affordable(b, 1, -(-b.side // stride)), 1, stride)


def _bottleneck(b: Builder, stride: int) -> None:
    out = -(-b.side // stride)
    b.conv(affordable(b, 1, b.side), 1)
    b.conv(affordable(b, 3, out), 3, stride)
    b.conv(affordable(b, 1, b.side), 1)


def _separable(b: Builder, stride: int) -> None:
    b.conv(b.channels, int(b.rng.choice((3, 3, 5))), stride, groups=b.channels)
    b.conv(affordable(b, 1, b.side), 1)


def _residual(b: Builder, stride: int) -> None:
    before, channels = b.head, b.channels
    width = min(random_width(b.rng, 24, 512), affordable(b, 3, b.side))
    b.conv(width, 3)
    back = b.rng.random() < 0.5
    b.conv(channels, 1 if back else 3, relu=False)
    b.op("Add", before)
    b.op("Relu")


def _preactivated(b: Builder, stride: int) -> None:
    before, channels = b.head, b.channels
    b.normalise()
    b.op("Relu")
    b.conv(min(random_width(b.rng, 16, 64), affordable(b, 3, b.side)), 3, relu=False)
    b.op("Concat", before, attributes={"axis": 1})
    b.channels += channels


def _lrn(b: Builder, stride: int) -> None:
    b.op("LRN", attributes={"size": 5, "alpha": 1e-4, "beta": 0.75})
    if b.side >= 7 and b.rng.random() < 0.5:
        _pool(b, stride)


def _pool(b: Builder, stride: int) -> None:
    kernel, stride = int(b.rng.choice((2, 3, 3))), int(b.rng.choice((1, 2, 2))) if b.side >= 14 else 1
    pad = kernel // 2 if kernel == 3 else 0
    op = "MaxPool" if b.rng.random() < 0.6 else "AveragePool"
    b.op(op, attributes={"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4})
    b.side = (b.side + 2 * pad - kernel) // stride + 1


def _swish(b: Builder, stride: int) -> None:
    """x times a sigmoid of x, written out or as one operator, behind a convolution or a depthwise one."""
    if b.rng.random() < 0.5:
        b.conv(affordable(b, 1, b.side), 1, relu=False)
    else:
        b.conv(b.channels, int(b.rng.choice((3, 5))), groups=b.channels, relu=False)
    before = b.head
    if b.rng.random() < 0.5:
        b.op("HardSwish")
        return
    b.op("Sigmoid")
    b.op("Mul", before)


def _squeezed(b: Builder, stride: int) -> None:
    """Every channel times what two small layers make of all channels' averages."""
    before, channels, side = b.head, b.channels, b.side
    b.op("GlobalAveragePool")
    b.side = 1
    b.conv(max(8, channels // 32 * 8), 1)
    b.conv(channels, 1, relu=False)
    b.op("HardSigmoid" if b.rng.random() < 0.5 else "Sigmoid")
    b.op("Mul", before)
    b.side = side


def _tokens(b: Builder, block: Callable[[Builder, int, int], None]) -> None:
    """Positions become tokens of as many values as there are channels, and a residual block of `block` them."""
    positions, channels = b.side**2, b.channels
    name = f"tokens{len(b.nodes)}"
    b.stored.append(numpy_helper.from_array(np.array([1, channels, positions]), f"{name}.there"))
    b.stored.append(numpy_helper.from_array(np.array([1, channels, b.side, b.side]), f"{name}.back"))
    b.op("Reshape", f"{name}.there")
    b.op("Transpose", attributes={"perm": [0, 2, 1]})
    before = b.head
    b.stored.append(numpy_helper.from_array(np.ones(channels, np.float32), f"{name}.scale"))
    b.stored.append(numpy_helper.from_array(np.zeros(channels, np.float32), f"{name}.shift"))
    b.op("LayerNormalization", f"{name}.scale", f"{name}.shift", attributes={"epsilon": 1e-6})
    block(b, positions, channels)
    b.op("Add", before)
    b.op("Transpose", attributes={"perm": [0, 2, 1]})
    b.op("Reshape", f"{name}.back")


def _mix(b: Builder, positions: int, channels: int) -> None:
    """Two matrix products with GELU between them, as exports write it out."""
    wide = random_width(b.rng, channels, 4 * channels)
    if positions * channels * wide > MAX_LAYER_MACS:
        wide = channels
    b.product(channels, wide)
    before = b.head
    for op, constant in (("Div", 2**0.5), ("Erf", None), ("Add", 1.0), ("Mul", before), ("Mul", 0.5)):
        b.op(op, *([] if constant is None else [constant if isinstance(constant, str) else b.number(constant)]))
    b.product(wide, channels)


def _attend(b: Builder, positions: int, channels: int) -> None:
    """Every token takes from all others, by heads of 32 or 64 values."""
    size = int(b.rng.choice((32, 64)))
    heads = max(1, channels // size)
    start, parts = b.head, []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        b.head = start
        b.product(channels, heads * size)
        b.shape((1, positions, heads, size))
        b.op("Transpose", attributes={"perm": order})
        parts.append(b.head)
    query, key, value = parts
    b.head = query
    b.op("MatMul", key)
    b.op("Softmax", attributes={"axis": -1})
    b.op("MatMul", value)
    b.op("Transpose", attributes={"perm": [0, 2, 1, 3]})
    b.shape((1, positions, heads * size))
    b.product(heads * size, channels)


def _fire(b: Builder, stride: int) -> None:
    """A 1x1 and a 3x3 convolution side by side whose channels are joined."""
    b.conv(affordable(b, 1, b.side), 1)
    head, channels = b.head, b.channels
    width = max(8, affordable(b, 3, b.side) // 2)
    b.conv(width, 1)
    left = b.head
    b.head, b.channels = head, channels
    b.conv(width, 3)
    b.op("Concat", left, attributes={"axis": 1})
    b.channels = 2 * width


def _shuffle(b: Builder, stride: int) -> None:
    """A grouped convolution, mostly 1x1, whose channels change places between the groups."""
    groups, kernel = int(b.rng.choice((2, 4, 4, MOST_GROUPS))), int(b.rng.choice((1, 1, 3)))
    width = max(groups, affordable(b, kernel, b.side) // groups * groups)
    b.conv(width, kernel, groups=groups)
    parts = f"shape{len(b.nodes)}"
    b.stored.append(numpy_helper.from_array(np.array([1, groups, width // groups, b.side, b.side]), parts))
    b.stored.append(numpy_helper.from_array(np.array([1, width, b.side, b.side]), f"{parts}.back"))
    b.op("Reshape", parts)
    b.op("Transpose", attributes={"perm": [0, 2, 1, 3, 4]})
    b.op("Reshape", f"{parts}.back")


def _mixed(b: Builder, stride: int) -> None:
    _tokens(b, _mix)


def _attention(b: Builder, stride: int) -> None:
    _tokens(b, _attend)


def _always(b: Builder) -> bool:
    return True


BLOCKS: tuple[tuple[Callable[[Builder, int], None], Callable[[Builder], bool]], ...] = (
    (_plain, _always),
    (_plain, _always),
    (_bottleneck, _always),
    (_separable, _always),
    (_separable, _always),
    (_residual, _always),
    (_pool, lambda b: b.side >= 7),
    (_point, _always),
    (_fire, _always),
    (_lrn, lambda b: b.channels * b.side**2 < MAX_LRN_VALUES),
    (_swish, _always),
    (_shuffle, lambda b: b.channels % MOST_GROUPS == 0),
    (_preactivated, _always),
    (_squeezed, _always),
    (_mixed, lambda b: b.side**2 <= MOST_TOKENS),
    (_attention, lambda b: b.side**2 <= MOST_ATTENDED),
)
"""(what builds it with a stride, whether it fits what is there; a plain convolution stands in where not)."""
