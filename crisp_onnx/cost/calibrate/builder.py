"""Build a random network as a chain of layers that every one stay affordable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

MAX_LAYER_MACS = 4e8
MAX_WEIGHTS = 6_000_000
CLAMPED_AT = 6.0


@dataclass
class Builder:
    """A chain of layers; `channels`, `side`: shape of the tensor `head` at its end.

    `clamps`: convolutions are cut off at 6 too, as those of networks for phones are.
    """

    rng: np.random.Generator
    channels: int
    side: int
    head: str = "image"
    clamps: bool = False
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
        if relu and self.clamps:
            self.op("Clip", self.number(0.0), self.number(CLAMPED_AT))
        elif relu:
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

    def product(self, inputs: int, outputs: int) -> None:
        """Tokens of `inputs` values each, times a weight, plus a bias."""
        name = f"fc{len(self.nodes)}"
        self._store(f"{name}.w", np.ascontiguousarray(self._weights((outputs, inputs)).T))
        self._store(f"{name}.b", np.full(outputs, 0.01, np.float32))
        self.op("MatMul", f"{name}.w")
        self.op("Add", f"{name}.b")

    def number(self, value: float) -> str:
        name = f"number{len(self.stored)}"
        self._store(name, np.asarray(value, np.float32))
        return name

    def shape(self, sides: Sequence[int]) -> None:
        name = f"sides{len(self.nodes)}"
        self.stored.append(numpy_helper.from_array(np.array(sides), name))
        self.op("Reshape", name)

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


def random_width(rng: np.random.Generator, least: int, most: int) -> int:
    """Log-uniform; mostly multiples of 16, as real networks have them, some of 8, some of nothing."""
    width = int(np.exp(rng.uniform(np.log(least), np.log(most))))
    multiple = int(rng.choice((16, 16, 16, 16, 8, 1)))
    return max(multiple, width // multiple * multiple)


def affordable(b: Builder, kernel: int, out: int) -> int:
    """A random width under the limits of MACs and weights."""
    taps = b.channels * kernel * kernel
    most = min(2048, MAX_LAYER_MACS / (taps * out * out), MAX_WEIGHTS / taps)
    return random_width(b.rng, 16, max(17, int(most)))
