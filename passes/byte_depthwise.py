"""Convolve each channel of bytes for itself where it is made into real numbers only for that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.format import DOMAIN
from crisp_onnx.format.node import Grid, OnGrid
from crisp_onnx.format.operators import DEPTHWISE
from crisp_onnx.model import fresh_name, tensor_names
from crisp_onnx.passes.byte_tables import beside_ours
from crisp_onnx.passes.quantise_hybrid import crossed, dequantised
from crisp_onnx.passes.result import Declined, PassResult, constant

CHANNELS_LAST = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "MaxPool"})
LARGEST_SUM = (1 << 31) - 1
LARGEST_BYTE = 255
GREATEST_SCALE = 1e18
"""Steps of the output in a step of the sums; the kernels refuse more."""


@dataclass(frozen=True)
class _Rows:
    """Stored integers with a scale for every row, as a DequantizeLinear makes real numbers of them."""

    values: npt.NDArray[np.integer]
    scales: npt.NDArray[np.float32]


class ByteDepthwise:
    """A depthwise Conv between DequantizeLinear and QuantizeLinear becomes our operator on the bytes themselves.

    Not between convolutions or pools of ONNX Runtime's, which keep channels last. Convolutions that give more channels
    than they take stay as they are.
    """

    name = "byte_depthwise"

    def run(self, graph: gs.Graph) -> PassResult:
        taken = tensor_names(graph)
        outputs = {id(tensor) for tensor in graph.outputs}
        changed, declined = 0, []
        for node in [node for node in graph.nodes if node.op == "Conv" and node.domain in (None, "", "ai.onnx")]:
            weight = stored_rows(node.inputs[1])
            readers = list(node.outputs[0].outputs)
            if weight is None or not _is_depthwise(node, weight) or id(node.outputs[0]) in outputs:
                continue
            if len(readers) != 1 or readers[0].op != "QuantizeLinear":
                continue
            before, after = dequantised(node.inputs[0]), crossed(readers[0], readers[0].outputs[0])
            if before is None or after is None or not _has_room(before.tensor, after.tensor):
                continue
            bias = _bias(node, weight, before.grid)
            obstacle = _obstacle(weight, bias, before.grid, after.grid)
            if obstacle or bias is None:
                declined.append(Declined(self.name, node.name, obstacle))
                continue
            readers[0].outputs.clear()
            _rewrite(node, weight, bias, before, after, taken)
            changed += 1
        return PassResult(changed, tuple(declined))


def stored_rows(tensor: gs.Tensor) -> _Rows | None:
    """The integers that a DequantizeLinear along the first axis makes the tensor of; None where they are not so."""
    if constant(tensor) or len(tensor.inputs) != 1 or tensor.inputs[0].op != "DequantizeLinear":
        return None
    node = tensor.inputs[0]
    if not all(constant(given) for given in node.inputs):
        return None
    values, scales = node.inputs[0].values, np.asarray(node.inputs[1].values, np.float32)
    zeros = node.inputs[2].values if len(node.inputs) > 2 else np.zeros(1, np.int32)
    if values.dtype not in (np.int8, np.int32) or values.ndim == 0 or np.any(zeros):
        return None
    if scales.ndim and (node.attrs.get("axis", 1) % values.ndim or scales.shape != values.shape[:1]):
        return None
    return _Rows(values, np.broadcast_to(scales, values.shape[:1]).copy())


def _has_room(source: gs.Tensor, out: gs.Tensor) -> bool:
    """Whether ours is on one side, or nothing that wants channels last on either."""
    makers = [maker for node in source.inputs for tensor in node.inputs[:1] for maker in tensor.inputs]
    readers = [reader for node in out.outputs for tensor in node.outputs for reader in tensor.outputs]
    return beside_ours(source, out) or not any(node.op in CHANNELS_LAST for node in (*makers, *readers))


def _is_depthwise(node: gs.Node, weight: _Rows) -> bool:
    shape = weight.values.shape
    plain = node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and weight.values.dtype == np.int8
    return plain and len(shape) == 4 and shape[1] == 1 and int(node.attrs.get("group", 1)) == shape[0] > 1


def _bias(node: gs.Node, weight: _Rows, data: Grid) -> npt.NDArray[np.int32] | None:
    """At the scale of the sums; None where it is kept at another."""
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return np.zeros(len(weight.scales), np.int32)
    bias = stored_rows(node.inputs[2])
    if bias is None or bias.values.dtype != np.int32 or bias.values.shape != weight.scales.shape:
        return None
    same = np.allclose(bias.scales, weight.scales * np.float32(data.scale), rtol=1e-5, atol=0)
    return bias.values.astype(np.int32) if same else None


def _obstacle(weight: _Rows, bias: npt.NDArray[np.int32] | None, data: Grid, out: Grid) -> str:
    """Why the kernels would refuse it; empty where they take it."""
    if bias is None:
        return "its bias is not stored at the scale of its sums"
    sums = np.abs(weight.values.astype(np.int64)).sum(axis=(1, 2, 3)) * LARGEST_BYTE + np.abs(bias.astype(np.int64))
    if sums.max(initial=0) > LARGEST_SUM:
        return "a channel's sum may not fit 32 bits"
    ratios = weight.scales.astype(np.float64) * data.scale / out.scale
    if not (np.isfinite(ratios) & (weight.scales > 0) & (ratios > 0) & (ratios <= GREATEST_SCALE)).all():
        return "its scales are too far apart"
    return ""


def _rewrite(
    node: gs.Node, weight: _Rows, bias: npt.NDArray[np.int32], before: OnGrid, after: OnGrid, taken: set[str]
) -> None:
    attrs = {
        "group": len(weight.scales),
        "kernel_shape": [int(side) for side in weight.values.shape[2:]],
        "strides": list(node.attrs.get("strides", [1, 1])),
        "pads": list(node.attrs.get("pads", [0] * 4)),
        "dilations": list(node.attrs.get("dilations", [1, 1])),
    }
    base = node.inputs[1].inputs[0].inputs[0].name

    def stored(what: str, values: npt.NDArray[np.generic]) -> gs.Constant:
        return gs.Constant(fresh_name(taken, f"{base}.{what}"), np.ascontiguousarray(values))

    node.op, node.domain, node.attrs = DEPTHWISE, DOMAIN, attrs
    node.inputs = [
        *(before.tensor, *before.stored, stored("depthwise", weight.values), stored("w_scale", weight.scales)),
        *(stored("bias_int32", bias), *after.stored),
    ]
    node.outputs = [after.tensor]
    after.tensor.dtype = np.dtype(np.uint8)
