"""The dense rest in int8, by ONNX Runtime's own static quantiser: QuantizeLinear and DequantizeLinear around operators.

Its scales and zero points are those given here. Weights have a scale a row, which leaves room for the sum of any two
neighbours: on processors without VNNI, ONNX Runtime adds two products in 16 bits and saturates silently.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.format.int8_weight import LEAST_SCALE, MOST_OF_A_PRODUCT, ROOM
from crisp_onnx.format.node import Grid, no_grid
from crisp_onnx.model import Model, Size, save
from crisp_onnx.passes.fuse_activation import bounds_of
from crisp_onnx.passes.keep_reals import averages_otherwise_on_bytes
from crisp_onnx.reading import reason

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
MOVING = frozenset({"Flatten", "Gather", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""What gives values on as they are, so that input and output share their bytes."""
COMPUTING = frozenset({"Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "Mul", "Relu"})
INT8_OPS = WEIGHTED | MOVING | COMPUTING
LARGEST, STEPS = 127, 255
UNREAD = Grid(1.0, 0)
"""Of what stays in real numbers: the quantiser fails where the range that it finds itself is of no numbers (0 / 0)."""
_ALREADY_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def reason_against(node: gs.Node, grids: Mapping[str, Grid]) -> str:
    """Why a node has no int8 form here, as the end of a sentence; empty where it has one."""
    if node.domain not in (None, "", "ai.onnx") or node.op not in INT8_OPS:
        return f"{node.op} has no int8 form here"
    if averages_otherwise_on_bytes(node):
        return "ONNX Runtime averages bytes otherwise where windows are spread out, or rounded up over counted padding"
    refusal = _against_weight(node) if node.op in WEIGHTED else ""
    if refusal:
        return refusal
    moving = [tensor for tensor in (*node.inputs, *node.outputs) if isinstance(tensor, gs.Variable)]
    unknown = [tensor.name for tensor in moving if not tensor.is_empty() and tensor.name not in grids]
    if unknown:
        return no_grid(unknown[0])
    return _against_bounds(node, grids[node.outputs[0].name]) if node.op == "Clip" else ""


def _against_bounds(node: gs.Node, grid: Grid) -> str:
    """ONNX Runtime's quantiser leaves out a Clip behind a layer in int8, as if its bytes ended where the Clip does."""
    bounds = bounds_of(node)
    if bounds is None:
        return "its bounds are computed, not stored"
    lower, upper = (bound / grid.scale + grid.zero for bound in bounds)
    return "its bounds lie inside of the range of its output" if lower > 0.5 or upper < STEPS - 0.5 else ""


def _against_weight(node: gs.Node) -> str:
    stored = [isinstance(tensor, gs.Constant) for tensor in node.inputs if not tensor.is_empty()]
    if not all(stored[1:]):
        return "its weight or its bias is computed, not stored"
    if node.op == "MatMul" and len(node.inputs[1].shape) != 2:
        return "its weight is no matrix"
    scaled = [node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)] != [1.0, 1.0]
    if node.op == "Gemm" and (scaled or node.attrs.get("transA", 0)):
        return "it scales or transposes what it reads"
    if node.op == "Gemm" and any(list(tensor.shape) != [rows_of(node)] for tensor in biases_of(node)):
        return "its bias is not one number a column of its output"
    return ""


def rows_of(node: gs.Node) -> int:
    """How many channels a layer's output has."""
    return int(node.inputs[1].shape[row_axis(node)])


def biases_of(node: gs.Node) -> list[gs.Tensor]:
    """The bias of a layer, where it has one."""
    return [tensor for tensor in list(node.inputs)[2:] if not tensor.is_empty()]


def quantise_dense(model: Model, layers: Collection[str], grids: Mapping[str, Grid], *, size: Size) -> Model:
    """`model` with the ordinary nodes named in `layers` in int8; hybrid nodes are left as they are.

    Raises:
        CrispError: ONNX Runtime's quantiser fails.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = model.graph()
    nodes = [node for node in graph.nodes if node.name in layers]
    if not nodes:
        return model
    overrides: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, npt.NDArray[np.float32]] = {}
    for node in nodes:
        for tensor in (*node.inputs, *node.outputs):
            if tensor.name in grids:
                overrides[tensor.name] = [_of_grid(grids[tensor.name])]
        if node.op in WEIGHTED:
            scales = _scales_of(node, grids[node.inputs[0].name].scale)
            known = rows.get(node.inputs[1].name, scales)  # one weight may serve several nodes
            rows[node.inputs[1].name] = np.maximum(known, scales)
            overrides[node.inputs[1].name] = _of_rows(rows[node.inputs[1].name], row_axis(node))
    for name in sorted(_calibrated(graph) - overrides.keys()):
        overrides[name] = [_of_grid(UNREAD)]
    with tempfile.TemporaryDirectory(prefix="crisp-int8-") as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        save(model.with_metadata(dict([_ALREADY_PREPARED])), source)
        try:
            quantize_static(
                str(source), str(target), _OneImage(model, size), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted(INT8_OPS), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, nodes_to_quantize=[node.name for node in nodes],
                extra_options={
                    "TensorQuantOverrides": overrides, "ForceQuantizeNoInputCheck": True, "MatMulConstBOnly": True,
                },
            )  # fmt: skip
            proto = onnx.load(target)
        except Exception as error:  # it raises whatever comes to hand
            raise CrispError(
                f"ONNX Runtime's quantiser cannot take {model.path.name}: {reason(error)}. Use --precision fp32."
            ) from error
    del proto.metadata_props[:]
    proto.metadata_props.extend(model.proto.metadata_props)
    proto.producer_name, proto.producer_version = model.proto.producer_name, model.proto.producer_version
    return replace(model, proto=proto)


def _calibrated(graph: gs.Graph) -> set[str]:
    """The tensors whose range the quantiser wants to know, whether it makes bytes of them or not."""
    tensors = [tensor for node in graph.nodes if node.op in INT8_OPS for tensor in (*node.inputs, *node.outputs)]
    return {tensor.name for tensor in tensors if isinstance(tensor, gs.Variable) and tensor.dtype == np.float32}


def shared_grids(graph: gs.Graph, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grids, such that an activation behind a layer gives its own to the layer, and what moves values keeps them.

    The bytes of a layer's output then end where its Relu or Clip ends, which needs no operator any more.
    """
    found = dict(grids)
    ends = {id(tensor) for tensor in graph.outputs}
    for node in reversed([node for node in graph.nodes if node.op in ("Relu", "Clip")]):
        source, out = node.inputs[0], node.outputs[0]
        if {source.name, out.name} <= found.keys() and len(source.outputs) == 1 and id(source) not in ends:
            found[source.name] = found[out.name]
    for node in graph.nodes:
        if node.op in MOVING and node.inputs[0].name in found and node.outputs[0].name in found:
            found[node.outputs[0].name] = found[node.inputs[0].name]
    return found


def with_renamed_outputs(graph: gs.Graph, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grids, and those of outputs by what the quantiser calls them where a layer of its own reads them."""
    from onnxruntime.quantization.quant_utils import QUANT_INPUT_SUFFIX

    outputs = [tensor.name for tensor in graph.outputs if tensor.name in grids]
    return {**grids, **{f"{name}{QUANT_INPUT_SUFFIX}": grids[name] for name in outputs}}


def _of_grid(grid: Grid) -> dict[str, Any]:
    return {"scale": np.array(grid.scale, np.float32), "zero_point": np.array(grid.zero, np.uint8)}


def row_axis(node: gs.Node) -> int:
    """The axis of a layer's weight along which its rows lie, one for each channel of its output."""
    return 0 if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)) else 1


def _scales_of(node: gs.Node, data_scale: float) -> npt.NDArray[np.float32]:
    """A scale for every row of the weight, for data of `data_scale`."""
    weight: npt.NDArray[np.float32] = np.moveaxis(node.inputs[1].values, row_axis(node), 0)
    stored = [tensor.values for tensor in biases_of(node)]
    return row_scales(weight, stored[0] if stored else np.zeros(len(weight), np.float32), data_scale)


def _of_rows(scales: npt.NDArray[np.float32], axis: int) -> list[dict[str, Any]]:
    from onnxruntime.quantization import QuantType

    zero = np.array(0, np.int8)
    return [{"axis": axis, "quant_type": QuantType.QInt8, "scale": scale, "zero_point": zero} for scale in scales]


def row_scales(
    weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], data_scale: float
) -> npt.NDArray[np.float32]:
    """(rows, ...) and (rows,) -> (rows,): scales in which no two neighbours of a row add up to more than 128 steps.

    255 * 128 fits 16 bits. Neighbours are those in the order of the file and those of channels that come last. A row of
    a single channel (depthwise) has none: ONNX Runtime multiplies those in 32 bits. The bias, in steps of the scale
    times `data_scale`, and the sum of all products fit 32 bits: of a row without weights the bias alone sets the scale.
    """
    flat = np.abs(weight).reshape(len(weight), -1).astype(np.float64)
    rows = flat.max(axis=1, initial=0)
    if weight.ndim < 3 or weight.shape[1] > 1:
        orders = (weight, np.moveaxis(weight, 1, -1))
        for order in orders:
            pairs = order.reshape(len(order), -1).astype(np.float64)
            rows = np.maximum(rows, np.abs(pairs[:, 1:] + pairs[:, :-1]).max(axis=1, initial=0))
    scales = rows / LARGEST  # rounding adds a step to a sum of two at most
    # Sums of rounded values exceed those of the values by half a step each at most.
    room = max(1, ROOM - MOST_OF_A_PRODUCT * flat.shape[1])
    scales = np.maximum(scales, MOST_OF_A_PRODUCT * flat.sum(axis=1) / room)
    scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / data_scale / ROOM)
    return np.where(scales > 0, np.maximum(scales, LEAST_SCALE), 1).astype(np.float32)


class _OneImage:
    """What the quantiser calibrates with; the grids given come before what it finds."""

    def __init__(self, model: Model, size: Size) -> None:
        spec = model.input
        self.feeds = iter([{spec.name: np.zeros(spec.fixed(1, size), spec.dtype)}])

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self.feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser logs for its developers, and what numpy says to its divisions, off the terminal."""
    root, none = logging.getLogger(), logging.NullHandler()
    root.addHandler(none)  # without any it installs one of its own
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        logging.disable(former)
        root.removeHandler(none)
