"""Random small networks whose layers are timed in place: convolutions of all kinds, residuals, pools, a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.model import Model

IMAGE_SIDES = (20, 28, 40, 48, 64, 96, 112, 136, 160, 192, 224, 224)
STEM_KERNELS = (3, 3, 5, 7)
MAX_LAYER_MACS = 4e8
MAX_WEIGHTS = 6_000_000
MAX_CLASSIFIER_WEIGHTS = 16_000_000
SHUFFLED = 4  # groups
MAX_LRN_VALUES = 300_000  # tens of times slower than anything else of its size


@dataclass
class _Builder:
    """A chain of layers; `channels`, `side`: shape of the tensor `head` at its end."""

    rng: np.random.Generator
    channels: int
    side: int
    head: str = "image"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)

    def conv(self, width: int, kernel: int, stride: int = 1, *, groups: int = 1, relu: bool = True) -> None:
        shape = (width, self.channels // groups, kernel, kernel)
        pad = kernel // 2
        name = f"conv{len(self.nodes)}"
        self._store(f"{name}.w", self._weights(shape))
        self._store(f"{name}.b", np.zeros(width, np.float32))
        node = helper.make_node(
            "Conv",
            [self.head, f"{name}.w", f"{name}.b"],
            [name],
            name=name,
            pads=[pad] * 4,
            strides=[stride] * 2,
            group=groups,
            kernel_shape=[kernel] * 2,
        )
        self.nodes.append(node)
        self.channels, self.side, self.head = width, (self.side + 2 * pad - kernel) // stride + 1, name
        if relu:
            self.op("Relu")

    def op(self, kind: str, *others: str, attributes: Mapping[str, Any] | None = None) -> None:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.head, *others], [name], name=name, **(attributes or {})))
        self.head = name

    def normalise(self) -> None:
        """BatchNormalization that a convolution before it cannot take."""
        name = f"norm{len(self.nodes)}"
        for part, value in (("scale", 1.1), ("shift", 0.1), ("mean", 0.2), ("var", 1.3)):
            self._store(f"{name}.{part}", np.full(self.channels, value, np.float32))
        self.op("BatchNormalization", *(f"{name}.{part}" for part in ("scale", "shift", "mean", "var")))

    def classifier(self, outputs: int, *, as_conv: bool, hidden: Sequence[int]) -> None:
        """One layer over the pooled channels; with `hidden` widths, several over all values, as in older networks."""
        if not hidden:
            self.op("GlobalAveragePool")
        if as_conv and not hidden:
            self.conv(outputs, 1, relu=False)
        self.op("Flatten")
        if as_conv and not hidden:
            return
        inputs = self.channels * (self.side**2 if hidden else 1)
        for width in (*hidden, outputs):
            self._gemm(inputs, width)
            inputs = width

    def _gemm(self, inputs: int, outputs: int) -> None:
        name = f"fc{len(self.nodes)}"
        self._store(f"{name}.w", self._weights((outputs, inputs)))
        self._store(f"{name}.b", np.zeros(outputs, np.float32))
        self.op("Gemm", f"{name}.w", f"{name}.b", attributes={"transB": 1})

    def _weights(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """He's: values neither grow nor vanish with depth, for powers of ones and zeros are fast in LRN and Softmax."""
        spread = float(np.sqrt(2 / np.prod(shape[1:])))
        return np.asarray(self.rng.standard_normal(shape, dtype=np.float32) * np.float32(spread), np.float32)

    def _store(self, name: str, value: npt.NDArray[np.float32]) -> None:
        self.stored.append(numpy_helper.from_array(value, name))


def synthetic_network(seed: int) -> Model:
    """Network number `seed`: about a dozen layers in the way real ones stand together."""
    rng = np.random.default_rng(seed)
    image = int(rng.choice(IMAGE_SIDES))
    builder = _Builder(rng, 3, image)
    builder.conv(_width(rng, 16, 72), int(rng.choice(STEM_KERNELS)), int(rng.choice((1, 2))) if image < 100 else 2)
    for _ in range(int(rng.integers(4, 8))):
        _block(builder)
    outputs = int(rng.integers(10, 1200))
    builder.classifier(outputs, as_conv=rng.random() < 0.4, hidden=_hidden(builder, outputs))
    if rng.random() < 0.5:
        builder.op("Softmax")
    graph = helper.make_graph(
        builder.nodes,
        f"synthetic{seed}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, image, image])],
        [helper.make_tensor_value_info(builder.head, TensorProto.FLOAT, [1, outputs])],
        builder.stored,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model(proto, Path(f"synthetic{seed}.onnx"), "")


def _hidden(b: _Builder, outputs: int) -> tuple[int, ...]:
    """In every third network the widths of one or two layers before the last, while their weights are affordable."""
    if b.rng.random() > 1 / 3:
        return ()
    most = int(min(4096, MAX_CLASSIFIER_WEIGHTS / (b.channels * b.side**2 + outputs)))
    if most < 32:
        return ()
    return tuple(_width(b.rng, 32, most) for _ in range(int(b.rng.integers(1, 3))))


def _width(rng: np.random.Generator, least: int, most: int) -> int:
    """Log-uniform; mostly multiples of 16, as real networks have them, some of 8, some of nothing."""
    width = int(np.exp(rng.uniform(np.log(least), np.log(most))))
    multiple = int(rng.choice((16, 16, 16, 16, 8, 1)))
    return max(multiple, width // multiple * multiple)


def _block(b: _Builder) -> None:
    """One random block that keeps every layer affordable."""
    kind = b.rng.choice(
        (
            "plain",
            "plain",
            "bottleneck",
            "separable",
            "separable",
            "residual",
            "pool",
            "point",
            "fire",
            "lrn",
            "swish",
            "shuffle",
            "preactivated",
        )
    )
    stride = 2 if b.side > 6 and b.rng.random() < 0.5 else 1
    out = -(-b.side // stride)
    if kind == "pool" and b.side >= 14:
        op = "MaxPool" if b.rng.random() < 0.7 else "AveragePool"
        b.op(op, attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
        b.side = (b.side - 1) // 2 + 1
    elif kind == "separable":
        b.conv(b.channels, int(b.rng.choice((3, 3, 5))), stride, groups=b.channels)
        b.conv(_affordable(b, 1, b.side), 1)
    elif kind == "residual":
        before, channels = b.head, b.channels
        width = min(_width(b.rng, 24, 512), _affordable(b, 3, b.side))
        b.conv(width, 3)
        back = b.rng.random() < 0.5
        b.conv(channels, 1 if back else 3, relu=False)
        b.op("Add", before)
        b.op("Relu")
    elif kind == "lrn" and b.channels * b.side**2 < MAX_LRN_VALUES:
        b.op("LRN", attributes={"size": 5, "alpha": 1e-4, "beta": 0.75})
    elif kind == "swish":
        b.conv(_affordable(b, 1, b.side), 1, relu=False)
        before = b.head
        b.op("Sigmoid")
        b.op("Mul", before)
    elif kind == "fire":
        _fire(b)
    elif kind == "shuffle" and b.channels % SHUFFLED == 0:
        _shuffle(b)
    elif kind == "preactivated":
        before, channels = b.head, b.channels
        b.normalise()
        b.op("Relu")
        b.conv(min(_width(b.rng, 16, 64), _affordable(b, 3, b.side)), 3, relu=False)
        b.op("Concat", before, attributes={"axis": 1})
        b.channels += channels
    elif kind == "bottleneck":
        b.conv(_affordable(b, 1, b.side), 1)
        b.conv(_affordable(b, 3, out), 3, stride)
        b.conv(_affordable(b, 1, b.side), 1)
    else:
        kernel = 1 if kind == "point" else 3
        b.conv(_affordable(b, kernel, out), kernel, stride)


def _fire(b: _Builder) -> None:
    """A 1x1 and a 3x3 convolution side by side whose channels are joined."""
    b.conv(_affordable(b, 1, b.side), 1)
    head, channels = b.head, b.channels
    width = max(8, _affordable(b, 3, b.side) // 2)
    b.conv(width, 1)
    left = b.head
    b.head, b.channels = head, channels
    b.conv(width, 3)
    b.op("Concat", left, attributes={"axis": 1})
    b.channels = 2 * width


def _shuffle(b: _Builder) -> None:
    """A grouped 1x1 convolution whose channels change places between the groups."""
    groups = SHUFFLED
    width = max(groups, _affordable(b, 1, b.side) // groups * groups)
    b.conv(width, 1, groups=groups)
    parts = f"shape{len(b.nodes)}"
    b.stored.append(numpy_helper.from_array(np.array([1, groups, width // groups, b.side, b.side]), parts))
    b.stored.append(numpy_helper.from_array(np.array([1, width, b.side, b.side]), f"{parts}.back"))
    b.op("Reshape", parts)
    b.op("Transpose", attributes={"perm": [0, 2, 1, 3, 4]})
    b.op("Reshape", f"{parts}.back")


def _affordable(b: _Builder, kernel: int, out: int) -> int:
    """A random width under the limits of MACs and weights."""
    taps = b.channels * kernel * kernel
    most = min(2048, MAX_LAYER_MACS / (taps * out * out), MAX_WEIGHTS / taps)
    return _width(b.rng, 16, max(17, int(most)))
