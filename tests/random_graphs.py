"""Random networks for the tests of channel groups: every way in which channels are joined, cut, tied and moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.model import Model

SIDE = 4
CLASSES = 5
OPSET = 18


class Network:
    """A graph under construction; `carriers` are (1, channels, 4, 4) and may be joined with what comes later."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {"x": 3}
        self.carriers: list[str] = []

    def node(self, op: str, inputs: list[str], channels: int | list[int], **attributes: Any) -> str:
        counts = channels if isinstance(channels, list) else [channels]
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(counts))]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}{len(self.nodes)}", **attributes))
        self.channels.update(zip(names, counts, strict=True))
        return names[0]

    def weight(self, *shape: int, positive: bool = False) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1.0
        values = self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.standard_normal(shape) * scale
        return self.number(values.astype(np.float32))

    def number(self, values: Any) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(self, x: str, out: int, kernel: int = 1, groups: int = 1) -> str:
        weight = self.weight(out, self.channels[x] // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        return self.node("Conv", [x, weight, self.weight(out)], out, group=groups, pads=pads)

    def model(self, head: str) -> Model:
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(head, TensorProto.FLOAT, [1, CLASSES])],
            self.stored,
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(proto)
        return Model(proto, Path("random.onnx"), "0" * 64)


def conv(net: Network, x: str, draw: st.DrawFn) -> str:
    return net.conv(x, draw(st.sampled_from([2, 4, 6, 8])), draw(st.sampled_from([1, 3])))


def depthwise(net: Network, x: str, draw: st.DrawFn) -> str:
    return net.conv(x, net.channels[x] * draw(st.sampled_from([1, 1, 2])), 3, net.channels[x])


def grouped(net: Network, x: str, draw: st.DrawFn) -> str:
    groups = 2 if net.channels[x] % 2 == 0 else 1
    return net.conv(x, groups * draw(st.integers(1, 4)), 1, groups)


def transposed(net: Network, x: str, draw: st.DrawFn) -> str:
    groups = draw(st.sampled_from([g for g in (1, 2, net.channels[x]) if net.channels[x] % g == 0]))
    out = draw(st.integers(1, 3))
    weight = net.weight(net.channels[x], out, 1, 1)
    return net.node("ConvTranspose", [x, weight, net.weight(out * groups)], out * groups, group=groups)


def norm(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x]
    rows = [net.weight(count), net.weight(count)]
    if draw(st.booleans()):
        return net.node("InstanceNormalization", [x, *rows], count)
    return net.node("BatchNormalization", [x, *rows, net.weight(count), net.weight(count, positive=True)], count)


def group_norm(net: Network, x: str, draw: st.DrawFn) -> str:
    """As torch exports it: channels of a group and positions become one axis and come back."""
    count = net.channels[x]
    groups = draw(st.sampled_from([g for g in (1, 2, count) if count % g == 0]))
    flat = net.node("Reshape", [x, net.number(np.array([0, groups, -1]))], groups)
    rows = [net.number(np.ones(groups, np.float32)), net.number(np.zeros(groups, np.float32))]
    normed = net.node("InstanceNormalization", [flat, *rows], groups)
    back = net.node("Reshape", [normed, net.number(np.array([1, count, SIDE, SIDE]))], count)
    return net.node("Mul", [back, net.weight(count, 1, 1)], count)


def activation(net: Network, x: str, draw: st.DrawFn) -> str:
    op = draw(st.sampled_from(["Relu", "Sigmoid", "PRelu", "Softmax"]))
    more = [net.weight(net.channels[x], 1, 1)] if op == "PRelu" else []
    return net.node(op, [x, *more], net.channels[x], **({"axis": 1} if op == "Softmax" else {}))


def residual(net: Network, x: str, draw: st.DrawFn) -> str:
    same = [name for name, count in net.channels.items() if count == net.channels[x] and name in net.carriers]
    return net.node(draw(st.sampled_from(["Add", "Mul"])), [x, draw(st.sampled_from(same))], net.channels[x])


def squeeze_excite(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x]
    pooled = net.node("GlobalAveragePool", [x], count)
    gate = net.node("Sigmoid", [net.conv(net.conv(pooled, 2), count)], count)
    return net.node("Mul", [gate, x] if draw(st.booleans()) else [x, gate], count)


def length_normalised(net: Network, x: str, draw: st.DrawFn) -> str:
    """As torch exports F.normalize: one length of all channels, expanded to each of them by a stated shape."""
    count, places = net.channels[x], draw(st.sampled_from([1, SIDE]))
    length = net.node("ReduceL2", [x, net.number(np.array([1]))], 1)
    wide = net.node("Expand", [length, net.number(np.array([1, count, places, places]))], count)
    return net.node("Div", [x, net.node("Add", [wide, net.weight(1)], count)], count)


def spatial_attention(net: Network, x: str, draw: st.DrawFn) -> str:
    """As CBAM's (arXiv 1807.06521): what all channels come to at a place weighs that place."""
    kinds = draw(st.lists(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceMin"]), min_size=1, max_size=2))
    parts = [net.node(kind, [x, net.number(np.array([1]))], 1) for kind in kinds]
    gate = net.node("Sigmoid", [net.conv(net.node("Concat", parts, len(parts), axis=1), 1)], 1)
    return net.node("Mul", [x, gate], net.channels[x])


def selective_kernel(net: Network, x: str, draw: st.DrawFn) -> str:
    """Two branches weighed against one another, channel by channel (arXiv 1903.06586)."""
    count = draw(st.sampled_from([3, 4]))
    wide = net.conv(x, 2 * count)
    parts = net.node("Reshape", [wide, net.number(np.array([0, 2, count, SIDE, SIDE]))], count)
    whole = net.node("ReduceSum", [parts, net.number(np.array([1]))], count, keepdims=0)
    asked = net.conv(net.node("GlobalAveragePool", [whole], count), 2 * count)
    shares = net.node("Reshape", [asked, net.number(np.array([0, 2, count, 1, 1]))], count)
    weighed = net.node("Mul", [parts, net.node("Softmax", [shares], count, axis=1)], count)
    return net.node("ReduceSum", [weighed, net.number(np.array([1]))], count, keepdims=0)


def concat(net: Network, x: str, draw: st.DrawFn) -> str:
    others = draw(st.lists(st.sampled_from(net.carriers), min_size=1, max_size=2))
    parts = [x, *others]
    total = sum(net.channels[name] for name in parts)
    return net.node("Concat", parts, total, axis=1) if total <= 24 else x


def split(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x]
    if count < 2:
        return x
    first = draw(st.integers(1, count - 1))
    one = net.node("Split", [x, net.number(np.array([first, count - first]))], [first, count - first], axis=1)
    other = one[:-1] + "1"
    net.carriers.append(one)
    if draw(st.booleans()):
        return other
    return net.node("Concat", [other, net.node("Relu", [one], first)], count, axis=1)


def cut(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x]
    start, step = draw(st.integers(0, count - 1)), draw(st.sampled_from([1, 2, -1]))
    end = count if step > 0 else -count - 1
    taken = len(range(count)[start : (end if step > 0 else None) : step])
    numbers = [net.number(np.array([value])) for value in (start, end, 1, step)]
    return net.node("Slice", [x, *numbers], taken)


def gather(net: Network, x: str, draw: st.DrawFn) -> str:
    wanted = draw(st.lists(st.integers(0, net.channels[x] - 1), min_size=1, max_size=8))
    return net.node("Gather", [x, net.number(np.array(wanted))], len(wanted), axis=1)


def pad(net: Network, x: str, draw: st.DrawFn) -> str:
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    pads = net.number(np.array([0, before, 0, 0, 0, after, 0, 0]))
    return net.node("Pad", [x, pads], net.channels[x] + before + after)


def shuffle(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x]
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if count % g == 0]))
    apart = net.node("Reshape", [x, net.number(np.array([1, groups, count // groups, SIDE, SIDE]))], 0)
    turned = net.node("Transpose", [apart], 0, perm=[0, 2, 1, 3, 4])
    return net.node("Reshape", [turned, net.number(np.array([1, count, SIDE, SIDE]))], count)


def window(net: Network, x: str, draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return net.node("MaxPool", [x], net.channels[x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    wide = net.node("Resize", [x, "", net.number(np.array([1, 1, 2, 2], np.float32))], net.channels[x], mode="nearest")
    return net.node("AveragePool", [wide], net.channels[x], kernel_shape=[2, 2], strides=[2, 2])


def channels_last(net: Network, x: str, draw: st.DrawFn) -> str:
    """LayerNormalization and a small MLP over the last axis, as ConvNeXt has them."""
    count = net.channels[x]
    last = net.node("Transpose", [x], 0, perm=[0, 2, 3, 1])
    normed = net.node("LayerNormalization", [last, net.weight(count), net.weight(count)], 0, axis=-1)
    hidden = net.node("Gelu" if draw(st.booleans()) and OPSET > 19 else "Tanh", [matmul(net, normed, count, 6)], 0)
    back = net.node("Transpose", [matmul(net, hidden, 6, count)], count, perm=[0, 3, 1, 2])
    return net.node("Add", [back, x], count)


def opaque(net: Network, x: str, draw: st.DrawFn) -> str:
    return net.node("LRN", [x], net.channels[x], size=3)


def matmul(net: Network, x: str, inside: int, outside: int) -> str:
    return net.node("Add", [net.node("MatMul", [x, net.weight(inside, outside)], 0), net.weight(outside)], 0)


STEPS = (
    conv, conv, depthwise, grouped, transposed, norm, group_norm, activation, residual, residual, squeeze_excite,
    length_normalised, spatial_attention, selective_kernel, concat, concat, split, cut, gather, pad, shuffle, window,
    channels_last, opaque,
)  # fmt: skip


def flat_head(net: Network, x: str, draw: st.DrawFn) -> str:
    count = net.channels[x] * SIDE * SIDE
    if draw(st.booleans()):
        flat = net.node("Flatten", [x], 0)
    else:
        last = net.node("Transpose", [x], 0, perm=[0, 2, 3, 1])
        flat = net.node("Reshape", [last, net.number(np.array([1, -1]))], 0)
    trans = draw(st.sampled_from([0, 1]))
    weight = net.weight(5, count) if trans else net.number(net.rng.standard_normal((count, 5)).astype(np.float32) / 8)
    return net.node("Gemm", [flat, weight, net.weight(5)], 0, transB=trans)


def pooled_head(net: Network, x: str, draw: st.DrawFn) -> str:
    pooled = net.node("ReduceMean", [x, net.number(np.array([2, 3]))], 0, keepdims=0)
    return matmul(net, net.node("Tanh", [matmul(net, pooled, net.channels[x], 7)], 0), 7, 5)


def token_head(net: Network, x: str, draw: st.DrawFn) -> str:
    """Positions become tokens, one attention block with two heads of three, and the first token answers."""
    count, heads, size = net.channels[x], 2, 3
    flat = net.node("Reshape", [x, net.number(np.array([0, 0, -1]))], 0)
    tokens = net.node("Transpose", [flat], 0, perm=[0, 2, 1])
    cls = net.number(net.rng.standard_normal((1, 1, count)).astype(np.float32))
    tokens = net.node("Concat", [cls, tokens], 0, axis=1)
    tokens = net.node("Add", [tokens, net.weight(1, SIDE * SIDE + 1, count)], 0)
    normed = net.node("LayerNormalization", [tokens, net.weight(count), net.weight(count)], 0)
    shape = net.number(np.array([1, SIDE * SIDE + 1, 3, heads, size]))
    qkv = net.node("Reshape", [matmul(net, normed, count, 3 * heads * size), shape], 0)
    qkv = net.node("Transpose", [qkv], 0, perm=[2, 0, 3, 1, 4])
    query, key, value = (net.node("Gather", [qkv, net.number(np.array(i))], 0, axis=0) for i in range(3))
    key = net.node("Transpose", [key], 0, perm=[0, 1, 3, 2])
    seen = net.node("Softmax", [net.node("MatMul", [query, key], 0)], 0, axis=-1)
    mixed = net.node("Transpose", [net.node("MatMul", [seen, value], 0)], 0, perm=[0, 2, 1, 3])
    mixed = net.node("Reshape", [mixed, net.number(np.array([0, 0, heads * size]))], 0)
    tokens = net.node("Add", [tokens, matmul(net, mixed, heads * size, count)], 0)
    return matmul(net, net.node("Gather", [tokens, net.number(np.array(0))], 0, axis=1), count, 5)


HEADS = (flat_head, pooled_head, token_head)


@st.composite
def networks(draw: st.DrawFn) -> Model:
    """A classifier of five classes over (1, 3, 4, 4) with up to eight steps between stem and head."""
    net = Network(draw(st.integers(0, 2**16)))
    x = net.conv("x", draw(st.sampled_from([4, 6, 8])), 3)
    net.carriers = [x]
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=8)):
        x = step(net, x, draw)
        net.carriers.append(x)
    return net.model(draw(st.sampled_from(HEADS))(net, x, draw))
