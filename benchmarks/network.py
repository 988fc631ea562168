"""Write networks as ONNX from seeded weights: dense with zeros in place, or as emission rewrites them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import HybridTensors, Pattern, decode, with_bodies
from crisp_onnx.format.node import Window
from crisp_onnx.masks import DenseLayer, Plan, SparseLayer
from crisp_onnx.model import Model, weight_layers, with_value_info
from crisp_onnx.passes import hybrid_passes, run_passes
from crisp_onnx.runtime.layer_case import random_tensors

OPSET = 17
IMAGE_CHANNELS = 3
CLASSES = 1000
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sparsity:
    """`pattern` inside blocks, of which every block row keeps `block_share` (at least one block).

    `channels`: share of the channels that stay at all, but for those of the image and the classes. `dense`: names of
    layers that keep their zeros in place.
    """

    pattern: Pattern
    block_share: float
    channels: float = 1.0
    dense: frozenset[str] = frozenset()

    def __str__(self) -> str:
        p = self.pattern
        return f"{p} V={p.vector_rows} B={p.block} {self.block_share:g} of the blocks"


@dataclass
class Network:
    """A graph under construction, of ordinary operators with zeros in place.

    `hybrid`: its sparse layers become hybrid operators at the end, as emission rewrites them. `sparse`: what they keep,
    by layer name.
    """

    sparsity: Sparsity
    hybrid: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    sparse: dict[str, HybridTensors] = field(default_factory=dict)
    layers: int = 0

    def next_layer(self) -> tuple[str, np.random.Generator]:
        """A number that is the same in both forms of the network, as name and as seed."""
        self.layers += 1
        return str(self.layers), np.random.default_rng(self.layers)

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        upper: float | None = math.inf,
        residual: str = "",
        sparse: bool = True,
        groups: int = 1,
        pad: int | None = None,
    ) -> str:
        """Conv, then the residual, then Relu (Clip to `upper` when finite, nothing when None). Returns the output.

        `pad`: on every side; half the kernel where it is None.
        """
        number, rng = self.next_layer()
        name = f"conv{number}"
        cin, cout, groups = (self.left(count) for count in (cin, cout, groups))
        shape = (cout, cin // groups, kernel, kernel)
        window = Window((stride, stride), (kernel // 2 if pad is None else pad,) * 4)
        values = self.random(name, rng, shape) if sparse else self.dense(rng, shape)
        weight, bias = self.add(f"{name}.weight", values), self.add(f"{name}.bias", self.bias(rng, cout))
        self.node("Conv", [x, weight, bias], name, group=groups, kernel_shape=[kernel] * 2, **window.attributes)
        if residual:
            self.node("Add", [name, residual], name := f"{name}.sum")
        if upper is None:
            return name
        if math.isinf(upper):
            return self.node("Relu", [name], f"{name}.relu")
        bounds_names = [self.add(f"{name}.{side}", np.float32(value)) for side, value in (("lo", 0), ("hi", upper))]
        return self.node("Clip", [name, *bounds_names], f"{name}.clip")

    def gemm(self, x: str, cin: int, cout: int, *, relu: bool, positions: int = 1) -> str:
        """X (N, cin * positions) times a sparse weight, plus bias, then Relu if asked for."""
        number, rng = self.next_layer()
        name, shape = f"fc{number}", (self.left(cout), self.left(cin) * positions, 1, 1)
        cout = shape[0]
        values = self.random(name, rng, shape)[:, :, 0, 0]
        weight, bias = self.add(f"{name}.weight", values), self.add(f"{name}.bias", self.bias(rng, cout))
        self.node("Gemm", [x, weight, bias], name, transB=1)
        return self.node("Relu", [name], f"{name}.relu") if relu else name

    def linear(self, x: str, cin: int, cout: int, *, residual: str = "") -> str:
        """X (..., cin) times a sparse weight, plus bias, then plus the residual: torch's export of a linear layer."""
        number, rng = self.next_layer()
        name, shape = f"fc{number}", (self.left(cout), self.left(cin), 1, 1)
        values = np.ascontiguousarray(self.random(name, rng, shape)[:, :, 0, 0].T)
        weight, bias = self.add(f"{name}.weight", values), self.add(f"{name}.bias", self.bias(rng, shape[0]))
        self.node("MatMul", [x, weight], name)
        y = self.node("Add", [name, bias], f"{name}.biased")
        return self.node("Add", [y, residual], f"{name}.sum") if residual else y

    def layer_norm(self, x: str, channels: int) -> str:
        """Over the last axis, with a scale and a shift of each channel."""
        number, rng = self.next_layer()
        name = f"norm{number}"
        scale = self.add(f"{name}.scale", np.float32(1) + self.bias(rng, channels))
        return self.node(
            "LayerNormalization", [x, scale, self.add(f"{name}.bias", self.bias(rng, channels))], name, epsilon=1e-6
        )

    def gelu(self, x: str) -> str:
        """x/2 * (1 + erf(x / sqrt 2)), as torch exports it before opset 20."""
        number, _ = self.next_layer()
        name = f"gelu{number}"
        values = {"root": math.sqrt(2), "one": 1.0, "half": 0.5}
        root, one, half = (self.add(f"{name}.{part}", np.float32(value)) for part, value in values.items())
        y = self.node("Erf", [self.node("Div", [x, root], f"{name}.scaled")], f"{name}.erf")
        y = self.node("Mul", [x, self.node("Add", [y, one], f"{name}.sum")], f"{name}.product")
        return self.node("Mul", [y, half], name)

    def reshape(self, x: str, sides: list[int]) -> str:
        """`sides` as Reshape takes them: 0 keeps a side, -1 takes what is left."""
        name = f"reshape{self.next_layer()[0]}"
        return self.node("Reshape", [x, self.add(f"{name}.sides", np.array(sides, np.int64))], name)

    def transpose(self, x: str, order: list[int]) -> str:
        return self.node("Transpose", [x], f"transpose{self.next_layer()[0]}", perm=order)

    def left(self, channels: int) -> int:
        """Of so many channels or groups, how many stay."""
        fixed = channels in (1, IMAGE_CHANNELS, CLASSES)
        return channels if fixed else max(1, round(channels * self.sparsity.channels))

    def random(self, name: str, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Floats:
        """A weight with the network's zeros in place."""
        pattern = self.sparsity.pattern
        kept = max(1, round(pattern.block_columns(shape) * self.sparsity.block_share))
        self.sparse[name] = random_tensors(rng, shape, pattern, kept)
        return np.ascontiguousarray(decode(self.sparse[name], shape, pattern), dtype=np.float32)

    def dense(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / np.prod(shape[1:])))

    def bias(self, rng: np.random.Generator, rows: int) -> Floats:
        return rng.standard_normal(rows, dtype=np.float32) * np.float32(0.1)

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def add(self, name: str, array: npt.NDArray[np.generic] | np.float32) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def model(self, output: str, classes: int, side: int, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", classes])],
            self.tensors,
        )
        dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return self._emitted(dense) if self.hybrid else dense

    def _emitted(self, dense: onnx.ModelProto) -> onnx.ModelProto:
        model = with_value_info(Model(dense, Path("network.onnx"), sha256=""))
        pattern = self.sparsity.pattern
        layers: list[SparseLayer | DenseLayer] = []
        for layer in weight_layers(model):
            kept = self.sparse.get(layer.name)
            if kept is None or layer.name in self.sparsity.dense:
                layers.append(DenseLayer(layer, "the network has it dense"))
            else:
                there = HybridTensors(kept.values != 0, kept.indices, kept.blocks)
                mask = np.asarray(decode(there, layer.shape, pattern), np.bool_)
                layers.append(SparseLayer(layer, pattern, kept.blocks, mask))
        graph = model.graph()
        run_passes(hybrid_passes(Plan(tuple(layers))), graph)
        return with_bodies(model.with_graph(graph)).proto
