"""Find the weight layers of a graph: Conv, Gemm and MatMul with a stored weight, read as matrices."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.model.macs import images_in, macs_of
from crisp_onnx.model.overridable import overridable
from crisp_onnx.model.spec import Model

WEIGHT_OPS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class WeightLayer:
    """One node with a stored weight.

    `shape` is (Cout, Cin per group, kh, kw), whatever the layout in the file; Gemm and MatMul have kh = kw = 1.
    `transposed`: the file stores the matrix as (Cin, Cout). `positions`: how often each weight is used for one image,
    which is the elements of the output over Cout; `None` when the shapes could not be inferred. `obstacle`: why no
    weight of this layer can be pruned, or empty.
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, int, int, int]
    groups: int
    transposed: bool
    positions: int | None
    obstacle: str

    @property
    def weights(self) -> int:
        return prod(self.shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image; a layer with unknown positions counts as one position."""
        return self.weights * (self.positions or 1)

    def matrix(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The stored weight as (Cout, Cin per group, kh, kw)."""
        return (stored.T if self.transposed else stored).reshape(self.shape)

    def stored(self, matrix: npt.NDArray[Any], like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `matrix`: (Cout, Cin per group, kh, kw) in the layout, shape and type of `like`."""
        plain = matrix.reshape(self.shape[0], -1).T if self.transposed else matrix
        return np.ascontiguousarray(plain.reshape(like.shape), dtype=like.dtype)


def weight_layers(model: Model, shapes: Mapping[str, tuple[int, ...]] | None = None) -> tuple[WeightLayer, ...]:
    """Every weight layer in the order of the graph. `shapes`: tensor shapes (see `model.shapes`)."""
    graph, overrides = model.view, overridable(model.proto)
    images = images_in(model, shapes or {})
    layers = []
    first_conv = True
    for node in graph.nodes:
        if node.op not in WEIGHT_OPS or node.domain not in (None, "", "ai.onnx"):
            continue
        sees_image = node.op == "Conv" and (first_conv or any(node.inputs[0] is image for image in graph.inputs))
        layer = _layer(node, shapes or {}, images, overrides, sees_image=sees_image)
        if node.op == "Conv":
            first_conv = False
        if layer is not None:
            layers.append(layer)
    return tuple(layers)


def _layer(
    node: gs.Node, shapes: Mapping[str, tuple[int, ...]], images: int, overrides: Container[str], *, sees_image: bool
) -> WeightLayer | None:
    if len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    given = weight.name in overrides
    if not isinstance(weight, gs.Constant) and not given:
        return None
    dims = tuple(int(d) for d in weight.shape)
    if len(dims) < (3 if node.op == "Conv" else 2) or 0 in dims:  # empty, or what no runtime takes: it will say so
        return None
    groups = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
    transposed = node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0))
    if node.op == "Conv":
        shape = (dims[0], dims[1], prod(dims[2:-1]), dims[-1])
        obstacle = _conv_obstacle(node, dims, groups, sees_image=sees_image)
    elif len(dims) != 2:
        return None
    else:
        shape = (dims[1], dims[0], 1, 1) if transposed else (dims[0], dims[1], 1, 1)
        obstacle = _gemm_obstacle(node)
    obstacle = _override_obstacle(node, overrides) or obstacle or _weight_obstacle(weight)
    if not obstacle and len(node.inputs) > 2 and not node.inputs[2].is_empty():
        obstacle = _bias_obstacle(node.inputs[2], shape[0])
    macs = macs_of(node, shapes)
    positions = None if macs is None else -(-macs // (prod(shape) * images))
    return WeightLayer(node.name, node.op, weight.name, shape, groups, transposed, positions, obstacle)


def _conv_obstacle(node: gs.Node, dims: tuple[int, ...], groups: int, *, sees_image: bool) -> str:
    """Why a convolution cannot be pruned whatever the pattern, or empty."""
    if len(dims) != 4:
        return f"a {len(dims) - 2}-D convolution"
    if groups > 1:
        return "depthwise convolution" if dims[1] == 1 else f"grouped convolution ({groups} groups)"
    if sees_image:
        return "first convolution: its few input channels see the image itself"
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"auto_pad={node.attrs['auto_pad']}: the padding depends on the input's size"
    return ""


def _gemm_obstacle(node: gs.Node) -> str:
    attrs = node.attrs
    scaled = attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0
    return "Gemm with transA, alpha or beta" if node.op == "Gemm" and scaled else ""


def _override_obstacle(node: gs.Node, overrides: Container[str]) -> str:
    name = next((tensor.name for tensor in node.inputs[1:] if tensor.name in overrides), "")
    return f"{name!r} is an input of the graph too, which a caller may override" if name else ""


def _weight_obstacle(weight: gs.Constant) -> str:
    if weight.dtype != np.float32:
        return f"weight is {np.dtype(weight.dtype).name}, not float32"
    if len(weight.outputs) > 1:
        return f"weight {weight.name!r} is shared by {len(weight.outputs)} nodes"
    return ""


def _bias_obstacle(bias: gs.Tensor, rows: int) -> str:
    """Why a bias is not one stored number per output, or empty."""
    if not isinstance(bias, gs.Constant):
        return f"bias {bias.name!r} is computed, not stored"
    dims = tuple(int(side) for side in bias.shape)
    plain = all(side == 1 for side in dims[:-1]) and (not dims or dims[-1] in (1, rows))
    return "" if plain else f"bias {bias.name!r} {dims} is not one number per output"
