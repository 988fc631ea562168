"""Shapes as facts: inferred from the inputs and the stored values, never taken from what a file says of its tensors.

A file that was edited (another input size, another batch) keeps the shapes of what it was; ONNX Runtime does not look
at them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from crisp_onnx.model.answers import open_model
from crisp_onnx.model.skeleton import skeleton
from crisp_onnx.model.spec import DEFAULT_SIZE, Model, Size

log = logging.getLogger(__name__)
Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(model: Model, *, batch: int = 1, size: Size = DEFAULT_SIZE) -> Shapes:
    """Shape by tensor name with `batch` images; open image sides count as those of `size`.

    A tensor whose shape neither inference nor a run gives is left out.
    """
    shapes, spec = stated_shapes(model, batch=batch, size=size), model.input
    wanted = [o for node in model.proto.graph.node for o in node.output if o and o not in shapes]
    if wanted:
        shapes.update(_run(model, wanted, np.zeros(spec.fixed(batch, size), spec.dtype)))
    return shapes


def stated_shapes(model: Model, *, batch: int = 1, size: Size = DEFAULT_SIZE, carried: bool = True) -> Shapes:
    """`tensor_shapes`, as far as inference gives them: nothing is run.

    `carried`: whether it follows values of whole numbers from node to node, each as long as the graph says.
    """
    spec = model.input
    fixed = spec.fixed(batch, size)
    proto = skeleton(model.proto, hints=False)
    for value in proto.graph.input:
        if value.name == spec.name:
            for dim, length in zip(value.type.tensor_type.shape.dim, fixed, strict=True):
                dim.dim_value = length
    inferred = _infer(proto, carried=carried)
    shapes: Shapes = {t.name: tuple(t.dims) for t in model.proto.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        # Inference subtracts a kernel that is larger than its image without a word.
        if tensor.HasField("shape") and all(d.HasField("dim_value") and d.dim_value >= 0 for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes


def facts(model: Model) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor, by name, as far as they follow from the inputs; open dimensions keep their names.

    An output also keeps the dimensions that the file declares where nothing is known of them.
    """
    inferred = _infer(skeleton(model.proto, hints=False))
    found = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for declared in model.proto.graph.output:
        if declared.name in found:
            _complete(found[declared.name].type.tensor_type, declared.type.tensor_type)
    return found


def with_value_info(model: Model) -> Model:
    """The model with the facts stored on its edges in place of what stood there."""
    known = facts(model)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    outputs = {value.name for value in proto.graph.output}
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(value for name, value in known.items() if name not in outputs)
    for output in proto.graph.output:
        if output.name in known:
            output.type.CopyFrom(known[output.name].type)
    return replace(model, proto=proto)


def with_declared_outputs(model: Model, source: Model) -> Model:
    """The model with outputs as open as `source` declares them, whatever is known of their lengths by now."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    declared = {output.name: output.type.tensor_type.shape.dim for output in source.proto.graph.output}
    for output in proto.graph.output:
        dims, before = output.type.tensor_type.shape.dim, declared.get(output.name, ())
        if len(dims) == len(before):
            for dim, named in zip(dims, before, strict=True):
                if not named.HasField("dim_value"):
                    dim.CopyFrom(named)
    return replace(model, proto=proto)


def inform(graph: gs.Graph, known: Mapping[str, onnx.ValueInfoProto]) -> None:
    """Give every tensor of `graph` the type and shape that are known of it, and no other."""
    given = {id(tensor) for tensor in graph.inputs}
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Variable) and id(tensor) not in given:
            found = known[name].type.tensor_type if name in known else onnx.TypeProto.Tensor()
            tensor.shape, tensor.dtype = _shape(found), _dtype(found)


def _shape(tensor: onnx.TypeProto.Tensor) -> list[int | str] | None:
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]


def _dtype(tensor: onnx.TypeProto.Tensor) -> np.dtype[np.generic] | int | None:
    """As graphsurgeon holds it: a type that plain NumPy lacks is its number."""
    if not tensor.elem_type or tensor.elem_type == onnx.TensorProto.BFLOAT16:
        return tensor.elem_type or None
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)


def _complete(known: onnx.TypeProto.Tensor, declared: onnx.TypeProto.Tensor) -> None:
    """Fill what is not known from what is declared, where the two agree in everything else."""
    if not known.HasField("shape"):
        known.shape.CopyFrom(declared.shape) if declared.HasField("shape") else None
    if len(known.shape.dim) != len(declared.shape.dim):
        return
    for dim, said in zip(known.shape.dim, declared.shape.dim, strict=True):
        if not dim.HasField("dim_value") and (said.HasField("dim_value") or said.dim_param):
            dim.CopyFrom(said)


def _infer(proto: onnx.ModelProto, *, carried: bool = True) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=carried)
    except (onnx.shape_inference.InferenceError, ValueError) as error:  # the graph contradicts itself
        log.debug("static shape inference failed: %s", error)
        return proto


def _run(model: Model, wanted: list[str], image: np.ndarray) -> Shapes:
    try:
        values = open_model(model, wanted).run({model.input.name: image}, wanted)
    except Exception as error:  # onnxruntime raises many types; shapes stay unknown and the caller says so
        log.debug("shapes by running failed: %s", error)
        return {}
    return {tensor: tuple(value.shape) for tensor, value in values.items() if hasattr(value, "shape")}
