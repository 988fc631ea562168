"""What the bytes of an int8 node mean, and how a float node becomes one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.errors import Defect
from crisp_onnx.format.node.parts import at, bias_of, residual_of, tensors_of
from crisp_onnx.format.node.writing import packed
from crisp_onnx.format.operators import OPERATORS, WEIGHT_SCALE, X_GRID, Y_GRID, Z_GRID, in_int8
from crisp_onnx.format.packing import HybridTensors, in_lanes


@dataclass(frozen=True)
class Grid:
    """Which real numbers the 256 bytes of a tensor stand for: (byte - zero) * scale."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Int8Weight:
    """A packed weight in int8. `scale`: (Cout,) float32; `bias`: (Cout,) int32, each at the data's scale times this."""

    tensors: HybridTensors
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]

    def obstacle(self, data: float, out: float, residual: float | None) -> str:
        """Why no kernel takes the weight between tensors of these scales; empty where they do."""
        shape = self.tensors.values.shape
        sums = np.abs(self.tensors.values.astype(np.int64)).sum(axis=(1, 3)).reshape(shape[0] * shape[2] * shape[4])
        if (255 * sums[: len(self.bias)] + np.abs(self.bias.astype(np.int64)) >= 2**31).any():
            return "a sum of its products may be over 31 bits"
        scales = [data, out, *([] if residual is None else [residual]), *self.scale.tolist()]
        largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).tiny
        if not all(smallest <= scale <= largest for scale in scales):
            return "a scale is not above zero"
        factors = [data * self.scale.astype(np.float64) / out, *([] if residual is None else [residual / out])]
        if any((np.asarray(factor) > largest).any() for factor in factors):
            return "a ratio of its scales is infinite"
        return ""


def no_grid(tensor: str) -> str:
    """Why a layer that reads or writes `tensor` has no int8 form, as the end of a sentence."""
    return f"the values of {tensor!r} are unknown or not finite"


@dataclass(frozen=True)
class OnGrid:
    """A tensor of bytes, what they mean, and the stored scale and zero point that say so."""

    tensor: gs.Tensor
    grid: Grid
    stored: tuple[gs.Constant, gs.Constant]


@dataclass(frozen=True)
class Int8Names:
    """Names of an int8 node's stored tensors: of the packed weight (see `base_name`), of its scale and its bias."""

    base: str
    scale: str
    bias: str


def int8_weight_of(node: gs.Node) -> Int8Weight:
    """The weight of an int8 node that `read` accepts."""
    scale, bias = np.asarray(at(node, WEIGHT_SCALE).values), np.asarray(bias_of(node).values)
    return Int8Weight(tensors_of(node), scale, bias)


def grids_of(node: gs.Node) -> tuple[Grid, Grid, Grid | None]:
    """What the bytes of data, output and residual of an int8 node mean; None where there is no residual."""
    data, out = _grid(node, X_GRID), _grid(node, Y_GRID)
    return data, out, _grid(node, Z_GRID) if residual_of(node) is not None else None


def quantise(
    node: gs.Node,
    weight: Int8Weight,
    data: OnGrid,
    out: OnGrid,
    residual: OnGrid | None,
    *,
    names: Int8Names,
) -> None:
    """Turn a float node into the one that computes on bytes, in place; its name, pattern and bounds stay.

    `residual`: where the node adds one.

    Raises:
        Defect: the sums of the weight do not fit 31 bits, or a ratio of scales is no float32: no kernel takes that.
    """
    scales = (data.grid.scale, out.grid.scale, residual.grid.scale if residual is not None else None)
    obstacle = weight.obstacle(*scales)
    if obstacle:
        raise Defect(f"{node.op} {node.name!r} cannot be written in int8: {obstacle}.")
    tensors = HybridTensors(in_lanes(weight.tensors.values), weight.tensors.indices, weight.tensors.blocks)
    stored = [gs.Constant(name, values) for name, values in packed(names.base, tensors).items()]
    scale, bias = gs.Constant(names.scale, weight.scale), gs.Constant(names.bias, weight.bias)
    node.inputs = [data.tensor, *data.stored, *stored, scale, bias, *out.stored]
    if residual is not None:
        node.inputs += [residual.tensor, *residual.stored]
    node.outputs = [out.tensor]
    node.op = in_int8(OPERATORS[node.op]).name


def _grid(node: gs.Node, slots: tuple[str, str]) -> Grid:
    scale, zero = (at(node, slot).values.item() for slot in slots)
    return Grid(float(scale), int(zero))
