"""ONNX Runtime's own profile: a JSON list of events with the shapes of every node it ran."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer, convolution, dense
from crisp_onnx.lowering.layers import product_kind
from crisp_onnx.lowering.schema import OpKind

SUFFIX = "_kernel_time"
CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv", "NhwcConv")
PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulInteger")
WEIGHT = {"QLinearConv": 3, "QGemm": 3, "QLinearMatMul": 3}
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean")
DTYPES = {"float": "fp32", "float16": "fp16", "int8": "int8", "uint8": "int8"}


def is_onnxruntime(content: object) -> bool:
    """Whether this is a list of events of which some are nodes."""
    return isinstance(content, list) and any(
        isinstance(event, dict) and event.get("cat") == "Node" for event in content
    )


def read_onnxruntime(content: list[Mapping[str, Any]]) -> Profile:
    """Median time by node over all runs in the file."""
    times: dict[str, list[float]] = defaultdict(list)
    about: dict[str, Mapping[str, Any]] = {}
    for event in content:
        if not isinstance(event, Mapping) or event.get("cat") != "Node" or event.get("dur") is None:
            continue
        name, args = str(event.get("name", "")), event.get("args")
        if name.endswith(SUFFIX):
            node = name.removesuffix(SUFFIX)
            times[node].append(float(event["dur"]))
            about[node] = args if isinstance(args, Mapping) else {}
    found = [_layer(node, median(spent), about[node]) for node, spent in times.items()]
    layers = tuple(layer for layer in found if layer is not None)
    return Profile("ONNX Runtime", layers, len(found) - len(layers))


def _layer(name: str, time_us: float, about: Mapping[str, Any]) -> TimedLayer | None:
    op = str(about.get("op_name", ""))
    inputs, outputs = _shapes(about.get("input_type_shape", [])), _shapes(about.get("output_type_shape", []))
    if not inputs or not outputs or time_us <= 0:
        return None
    (first, image), (_, out) = inputs[0], outputs[0]
    dtype, at = DTYPES.get(first, ""), WEIGHT.get(op, 1)
    weight = inputs[at][1] if at < len(inputs) else ()
    if op in CONVOLUTIONS and len(weight) == 4 and len(image) == 4 and len(out) == 4:
        matrix = convolution(image, weight, out, max(1, image[1] // weight[1]))
        return TimedLayer(name, product_kind(matrix, "Conv"), time_us, matrix, dtype=dtype)
    if op in PRODUCTS and len(weight) == 2 and out:
        columns = 1
        for side in out[:-1]:
            columns *= side
        return dense(name, time_us, image[-1], out[-1], columns, dtype)
    kind: OpKind = "pool" if op in POOLS else "elementwise"
    moved = int(about.get("output_size", 0)) + int(about.get("activation_size", 0))
    return TimedLayer(name, kind, time_us, moved_bytes=moved, dtype=dtype) if moved else None


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
