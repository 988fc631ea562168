"""Shapes of every tensor for one image: static inference first, one run in ONNX Runtime where that leaves gaps."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort

from crisp_onnx.model.spec import DEFAULT_SIZE, Model, Size

log = logging.getLogger(__name__)
Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(model: Model, *, batch: int = 1, size: Size = DEFAULT_SIZE) -> Shapes:
    """Shape by tensor name with `batch` images; open image sides count as those of `size`.

    A tensor whose shape neither inference nor a run gives is left out.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    spec = model.input
    fixed = spec.fixed(batch, size)
    stored = {t.name for t in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name not in stored:
            for dim, length in zip(value.type.tensor_type.shape.dim, fixed, strict=True):
                dim.dim_value = length
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:  # over 2 GiB, or the graph contradicts itself
        log.debug("static shape inference failed: %s", error)
    shapes = _known(proto)
    wanted = [o for node in proto.graph.node for o in node.output if o and o not in shapes]
    if wanted:
        shapes.update(_run(proto, wanted, spec.name, np.zeros(fixed, spec.dtype)))
    return shapes


def with_value_info(model: Model) -> Model:
    """The model with every inferable shape stored on its edges; open dimensions keep their names."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model.proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:  # over 2 GiB, or the graph contradicts itself
        log.debug("static shape inference failed: %s", error)
        return model
    return replace(model, proto=inferred)


def _known(proto: onnx.ModelProto) -> Shapes:
    shapes: Shapes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes


def _run(proto: onnx.ModelProto, wanted: list[str], name: str, image: np.ndarray) -> Shapes:
    named = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in wanted if tensor not in named)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = session.run(wanted, {name: image})
    except Exception as error:  # onnxruntime raises many types; shapes stay unknown and the caller says so
        log.debug("shapes by running failed: %s", error)
        return {}
    return {tensor: tuple(value.shape) for tensor, value in zip(wanted, values, strict=True) if hasattr(value, "shape")}
