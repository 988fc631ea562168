"""Time a convolution that reads real numbers and whose output becomes bytes, computed in float32 and in int8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.runtime.layer_case import X_GRID_OF, Y_GRID_OF, LayerCase, dense_and_hybrid
from crisp_onnx.runtime.layer_times import LayerTimes, measure_sides

IMAGE, BYTES = "image", "bytes"


def measure_first_layer(case: LayerCase, *, ours: bool, threads: int = 1, budget_s: float = 0.2) -> LayerTimes:
    """`dense_ms` in float32 with its output quantised behind it, `hybrid_ms` in int8 with its input quantised before.

    `case`: in int8. `ours`: whether our kernels compute it in int8, and not ONNX Runtime.

    Raises:
        CrispError: the native kernels do not load on this machine, or there is no room for the profile.
    """
    plain = giving_bytes(dense_and_hybrid(replace(case, element="float32"))[0])
    in_int8 = reading_floats(dense_and_hybrid(case)[ours])
    feed = {IMAGE: np.random.default_rng(0).standard_normal(case.input_shape, dtype=np.float32)}
    times = measure_sides((plain, in_int8), feed, natives=(False, ours), threads=threads, budget_s=budget_s)
    return replace(times, dense_ms=times.dense_ms + times.seam_ms, seam_ms=0.0)


def giving_bytes(model: bytes) -> bytes:
    """A layer's model in float32 that reads `image`, its output quantised to `bytes`."""
    proto = onnx.load_from_string(model)
    _rename(proto.graph, {"x": IMAGE})
    _store(proto.graph, Y_GRID_OF.scale, Y_GRID_OF.zero)
    proto.graph.node.append(helper.make_node("QuantizeLinear", ["y", "scale", "zero"], [BYTES], name="quantize"))
    _declare(proto.graph.output[0], BYTES, TensorProto.UINT8)
    return bytes(proto.SerializeToString())


def reading_floats(model: bytes) -> bytes:
    """A layer's model in int8, with `image` quantised to its input."""
    proto = onnx.load_from_string(model)
    _rename(proto.graph, {"y": BYTES})
    _store(proto.graph, X_GRID_OF.scale, X_GRID_OF.zero)
    proto.graph.node.insert(0, helper.make_node("QuantizeLinear", [IMAGE, "scale", "zero"], ["x"], name="quantize"))
    _declare(proto.graph.input[0], IMAGE, TensorProto.FLOAT)
    return bytes(proto.SerializeToString())


def _store(graph: onnx.GraphProto, scale: float, zero: int) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero, np.uint8), "zero"))


def _declare(value: onnx.ValueInfoProto, name: str, element: int) -> None:
    value.name = name
    value.type.tensor_type.elem_type = element


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
