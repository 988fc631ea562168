"""Random layers in the hybrid format, and one-node models of them: what the tests of the kernels are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.format import DOMAIN, VERSION, operator_function

OPSET = 17
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Attributes and tensors of one hybrid operator. `weight_shape`: (Cout, Cin, kh, kw)."""

    op: str
    attrs: dict[str, Any]
    tensors: dict[str, npt.NDArray[Any]] = field(repr=False)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return tuple(self.attrs["weight_shape"])


def random_layer(
    rng: np.random.Generator,
    weight_shape: tuple[int, int, int, int],
    *,
    n: int = 2,
    m: int = 4,
    block: int = 16,
    vector_rows: int = 8,
    kept: int | None = None,
    op: str = "HybridConv",
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    lower: float = -np.inf,
    upper: float = np.inf,
) -> Layer:
    """A layer with random values and places. `kept`: blocks of every block row, a quarter of them when None."""
    cout, depth = weight_shape[0], int(np.prod(weight_shape[1:]))
    R, C = -(-cout // block), -(-depth // block)
    S = kept or max(1, C // 4)
    G, groups = block // vector_rows, block // m
    bits = 1 if m <= 2 else 2 if m <= 4 else 4
    blocks = np.sort(np.argsort(rng.random((R, C)))[:, :S], axis=1).astype(np.int32)
    places = np.sort(np.argsort(rng.random((R, S, G, groups, m)))[..., :n], axis=-1).reshape(R, S, G, -1)
    values = rng.standard_normal((R, S, G, groups * n, vector_rows), dtype=np.float32)
    column = blocks[:, :, None, None].astype(np.int64) * block + places + np.arange(groups * n) // n * m
    values[column >= depth] = 0
    per_byte = 8 // bits
    padded = np.pad(places, [(0, 0)] * 3 + [(0, -places.shape[-1] % per_byte)])
    packed = (padded.reshape(R, S, G, -1, per_byte) << (np.arange(per_byte) * bits)).sum(-1).astype(np.uint8)
    attrs: dict[str, Any] = {"n": n, "m": m, "block": block, "vector_rows": vector_rows, "index_bits": bits}
    attrs |= {"weight_shape": list(weight_shape), "lower": float(lower), "upper": float(upper)}
    if op != "HybridGemm":
        attrs |= {"strides": list(strides), "pads": list(pads), "dilations": list(dilations)}
    bias = rng.standard_normal(cout, dtype=np.float32)
    return Layer(op, attrs, {"values": values, "indices": packed, "blocks": blocks, "bias": bias})


def model_of(layer: Layer, *, rank: int = 4, opset: int = OPSET, inner_residual: bool = False) -> onnx.ModelProto:
    """One node, its tensors as initializers and its function body; every dimension of X is open.

    `inner_residual`: residual and output lie inside the graph, so that the runtime may write one over the other.
    """
    inner = inner_residual and layer.op == "HybridConvAdd"
    residual = ["negated" if inner else "Z"] if layer.op == "HybridConvAdd" else []
    names = ["X", *layer.tensors, *residual]
    node = helper.make_node(layer.op, names, ["sum" if inner else "Y"], name="layer0", domain=DOMAIN, **layer.attrs)
    open_shape = [f"d{i}" for i in range(rank)]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, open_shape)]
    if layer.op == "HybridConvAdd":
        inputs.append(helper.make_tensor_value_info("Z", TensorProto.FLOAT, [f"y{i}" for i in range(rank)]))
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [f"y{i}" for i in range(rank)])
    initializers = [numpy_helper.from_array(array, name) for name, array in layer.tensors.items()]
    nodes, inside = [node], []
    if inner:
        nodes = [helper.make_node("Neg", ["Z"], ["negated"]), node, helper.make_node("Neg", ["sum"], ["Y"])]
        inside = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [f"y{i}" for i in range(rank)])]
    graph = helper.make_graph(nodes, "one_layer", inputs, [output], initializers, value_info=inside)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, functions=[operator_function(layer.op, opset)], opset_imports=opsets, ir_version=8)


def open_session(model: onnx.ModelProto, library: Path | None, threads: int = 1) -> ort.InferenceSession:
    """A session on the bytes of `model`: native with a library, the function body without one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def save_at_odd_offsets(model: onnx.ModelProto, path: Path, gap: int) -> None:
    """Save with the tensors in `<path>.data`, each `gap` bytes behind a multiple of eight."""
    data = bytearray()
    for tensor in model.graph.initializer:
        data += b"\xaa" * (-len(data) % 8 + gap)
        entries = {"location": f"{path.name}.data", "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    path.with_name(f"{path.name}.data").write_bytes(data)
    onnx.save(model, path)


def at_odd_address(array: Floats, gap: int) -> Floats:
    """A copy of `array` that begins `gap` bytes behind a multiple of its numbers' size."""
    memory = np.zeros(array.nbytes + gap, np.uint8)[gap:]
    memory[:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory.view(np.float32).reshape(array.shape)
