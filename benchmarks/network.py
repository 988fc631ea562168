"""Write networks as ONNX, dense with zeros in place or with hybrid operators, from the same seeded weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import (
    CONV,
    CONV_ADD,
    DOMAIN,
    GEMM,
    OPERATORS,
    VERSION,
    HybridTensors,
    Pattern,
    decode,
    operator_function,
)
from crisp_onnx.format.node import HybridNode, Window, packed
from crisp_onnx.runtime.layer_case import random_tensors

OPSET = 17
IMAGE_CHANNELS = 3
CLASSES = 1000
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sparsity:
    """`pattern` inside blocks, of which every block row keeps `block_share` (at least one block).

    `channels`: share of the channels that stay at all, but for those of the image and the classes.
    """

    pattern: Pattern
    block_share: float
    channels: float = 1.0

    def __str__(self) -> str:
        p = self.pattern
        return f"{p} V={p.vector_rows} B={p.block} {self.block_share:g} of the blocks"


@dataclass
class Network:
    """A graph under construction. `hybrid` False writes the same weights as ordinary operators, zeros in place."""

    sparsity: Sparsity
    hybrid: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
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
    ) -> str:
        """Conv, then the residual, then Relu (Clip to `upper` when finite, nothing when None). Returns the output."""
        number, rng = self.next_layer()
        name = f"conv{number}"
        cin, cout, groups = (self.left(count) for count in (cin, cout, groups))
        shape = (cout, cin // groups, kernel, kernel)
        window = Window((stride, stride), (kernel // 2,) * 4)
        tensors = self.random(rng, shape) if sparse else None
        bias = self.add(f"{name}.bias", rng.standard_normal(cout, dtype=np.float32) * 0.1)
        if tensors is not None and self.hybrid:
            bounds = (-math.inf, math.inf) if upper is None else (0.0, upper)
            node = HybridNode(OPERATORS[CONV_ADD if residual else CONV], self.sparsity.pattern, shape, window, *bounds)
            return self.hybrid_node(node, [x, *self.packed(name, tensors), bias, *filter(None, [residual])], name)
        weight = self.add(f"{name}.weight", self.dense(rng, shape, tensors))
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
        tensors = self.random(rng, shape)
        bias = self.add(f"{name}.bias", rng.standard_normal(cout, dtype=np.float32) * 0.1)
        if self.hybrid:
            node = HybridNode(OPERATORS[GEMM], self.sparsity.pattern, shape, lower=0.0 if relu else -math.inf)
            return self.hybrid_node(node, [x, *self.packed(name, tensors), bias], name)
        weight = self.add(f"{name}.weight", self.dense(rng, shape, tensors)[:, :, 0, 0])
        self.node("Gemm", [x, weight, bias], name, transB=1)
        return self.node("Relu", [name], f"{name}.relu") if relu else name

    def left(self, channels: int) -> int:
        """Of so many channels or groups, how many stay."""
        fixed = channels in (1, IMAGE_CHANNELS, CLASSES)
        return channels if fixed else max(1, round(channels * self.sparsity.channels))

    def random(self, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> HybridTensors:
        columns = self.sparsity.pattern.block_columns(shape)
        kept = max(1, round(columns * self.sparsity.block_share))
        return random_tensors(rng, shape, self.sparsity.pattern, kept)

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def hybrid_node(self, node: HybridNode, inputs: list[str], output: str) -> str:
        self.nodes.append(node.proto(output, inputs, output))
        return output

    def add(self, name: str, array: npt.NDArray[np.generic] | np.float32) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def packed(self, name: str, tensors: HybridTensors) -> list[str]:
        return [self.add(part, array) for part, array in packed(f"{name}.weight", tensors).items()]

    def dense(self, rng: np.random.Generator, shape: tuple[int, ...], tensors: HybridTensors | None) -> Floats:
        if tensors is not None:
            return np.ascontiguousarray(decode(tensors, shape, self.sparsity.pattern), dtype=np.float32)
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / np.prod(shape[1:])))

    def model(self, output: str, classes: int, side: int, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", classes])],
            self.tensors,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        used = {node.op_type for node in self.nodes if node.domain == DOMAIN}
        functions = [operator_function(op, OPSET) for op in sorted(used)]
        return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
