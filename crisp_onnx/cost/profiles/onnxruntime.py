"""ONNX Runtime's own profile: a JSON list of events with the shapes of every node it ran."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import prod
from statistics import median
from typing import Any

from crisp_onnx.cost.profiles.timed import Dims, Profile, TimedLayer, convolution
from crisp_onnx.lowering.layers import Layer, product_kind
from crisp_onnx.lowering.matrix import Matrix, product_matrix
from crisp_onnx.lowering.schema import OpKind
from crisp_onnx.runtime.profiled import RENAMED

SUFFIX = "_kernel_time"
CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv", "NhwcConv")
PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulInteger")
WEIGHT = {"QLinearConv": 3, "QGemm": 3, "QLinearMatMul": 3}
COMPUTING = ("conv", "gemm", "matmul", "attention", "lstm", "gru", "rnn", "einsum")
"""In the names of operators that compute: without shapes, nothing tells how much, and they do not only move data."""
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "NhwcMaxPool", "QLinearGlobalAveragePool")
VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"})
"""What moves nothing, whatever its inputs and outputs count."""
DTYPES = {"float": "fp32", "float16": "fp16", "int8": "int8", "uint8": "int8"}


def is_onnxruntime(content: object) -> bool:
    """Whether this is a list of events of which some are nodes."""
    return isinstance(content, list) and any(
        isinstance(event, dict) and event.get("cat") == "Node" for event in content
    )


def read_onnxruntime(content: list[Mapping[str, Any]], layers: Iterable[Layer] = ()) -> Profile:
    """Median time by node over all runs in the file.

    `layers`: of the model that was measured. The runtime packs weights when it loads, and then tells none of their
    shapes.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)  # by name and place: names may come twice
    about: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in content:
        if not isinstance(event, Mapping) or event.get("cat") != "Node" or event.get("dur") is None:
            continue
        name, args = str(event.get("name", "")), event.get("args")
        if name.endswith(SUFFIX):
            told = args if isinstance(args, Mapping) else {}
            node = name.removesuffix(SUFFIX), str(told.get("node_index", ""))
            times[node].append(float(event["dur"]))
            about[node] = told
    known = {name: layer for layer in layers if layer.matrix for name in (*layer.fused, layer.name)}
    found = [_layer(node[0], median(spent), about[node], known) for node, spent in times.items()]
    return Profile("ONNX Runtime", tuple(layer for layer in found if layer is not None), found.count(None))


def _layer(name: str, time_us: float, about: Mapping[str, Any], known: Mapping[str, Layer]) -> TimedLayer | None:
    op = str(about.get("op_name", ""))
    inputs, outputs = _shapes(about.get("input_type_shape", [])), _shapes(about.get("output_type_shape", []))
    if not inputs or not outputs or time_us <= 0 or op in VIEWS:
        return None
    (first, image), (_, out) = inputs[0], outputs[0]
    dtype, at = DTYPES.get(first, first), WEIGHT.get(op, 1)
    weight = inputs[at][1] if at < len(inputs) else ()
    if any(word in op.lower() for word in COMPUTING):
        matrix = _matrix(op, image, weight, out)
        model_layer = known.get(RENAMED.sub("", name.removeprefix("fused ")))
        if matrix is None and model_layer is not None and op in CONVOLUTIONS:
            matrix = model_layer.matrix
        if matrix is None:
            return None
        kind = product_kind(matrix, "Conv" if op in CONVOLUTIONS else "Gemm")
        return TimedLayer(name, kind, time_us, matrix, dtype=dtype)
    moving: OpKind = "pool" if op in POOLS else "elementwise"
    moved = int(about.get("output_size", 0)) + int(about.get("activation_size", 0))
    return TimedLayer(name, moving, time_us, moved_bytes=moved, dtype=dtype) if moved else None


def _matrix(op: str, image: Dims, weight: Dims, out: Dims) -> Matrix | None:
    """What a node computes, as far as its shapes tell: None where they do not."""
    if op in CONVOLUTIONS and len(weight) == len(image) == len(out) == 4:
        if out[1] != weight[0] and out[3] == weight[0]:  # channels last
            image, out = ((dims[0], dims[3], *dims[1:3]) for dims in (image, out))
        return convolution(image, weight, out, max(1, image[1] // weight[1]))
    if op not in PRODUCTS or not image or not out:
        return None
    if len(weight) > 2:  # of two activations, in as many pairs as the leading sides count
        return product_matrix(out[-1], image[-1], out[-2], groups=prod(out[:-2]), weighted=False)
    length = prod(weight) // out[-1] if len(weight) == 2 else image[-1]  # Gemm may read its left operand by columns
    return product_matrix(out[-1], length, prod(out[:-1]))


def _shapes(listed: list[Mapping[str, list[int]]]) -> list[tuple[str, tuple[int, ...]]]:
    found = [(kind, tuple(int(side) for side in shape)) for entry in listed for kind, shape in entry.items()]
    empty = next((shape for _, shape in found if any(side < 1 for side in shape)), None)
    if empty is not None:
        raise ValueError(f"a tensor of the shape {list(empty)} holds nothing")
    return found


def parse(text: str) -> object:
    """The JSON document; an unfinished profile lacks its last bracket."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(text.rstrip().rstrip(",") + "]")
