"""A graph without the data of its weights: small enough to copy, check and infer shapes on, whatever it weighs."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx
from onnx import helper

DATA_OVER_ELEMENTS = 256
"""Tensors up to this size keep their values: shapes are computed from them."""


def skeleton(proto: onnx.ModelProto, *, hints: bool = True) -> onnx.ModelProto:
    """A copy of `proto` in which every initializer of more than 256 elements is a graph input of its type and shape.

    Without `hints` the copy also lacks what the file says of inner tensors and of its outputs' shapes, in subgraphs
    too: files are edited, and then keep the shapes of what they were.
    """
    bare = without_weights(proto)
    graph = bare.graph
    if hints:
        graph.value_info.extend(proto.graph.value_info)
    else:
        _forget(graph)
    inputs = {value.name for value in graph.input}
    for tensor in proto.graph.initializer:
        if prod(tensor.dims) <= DATA_OVER_ELEMENTS:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def with_weights(bare: onnx.ModelProto, proto: onnx.ModelProto) -> onnx.ModelProto:
    """`bare`, made of a skeleton of `proto`, as a whole model again: with the initializers and metadata."""
    whole = onnx.ModelProto()
    whole.CopyFrom(bare)
    kept = {tensor.name for tensor in bare.graph.initializer}
    moved = [tensor for tensor in proto.graph.initializer if tensor.name not in kept]
    names = {tensor.name for tensor in moved}
    inputs = [value for value in bare.graph.input if value.name not in names]
    del whole.graph.input[:]
    whole.graph.input.extend(inputs)
    whole.graph.initializer.extend(moved)
    describe(whole, proto)
    return whole


def describe(proto: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Let `proto` say of itself what `source` does: metadata, producer, version, documentation."""
    del proto.metadata_props[:]
    proto.metadata_props.extend(source.metadata_props)
    proto.producer_name, proto.producer_version = source.producer_name, source.producer_version
    proto.doc_string = source.doc_string
    proto.domain, proto.model_version = source.domain, source.model_version


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of what ONNX Runtime reads of `proto`, but for its initializers and the shapes of inner tensors."""
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    bare.graph.name = "graph"
    bare.graph.node.extend(proto.graph.node)
    bare.graph.input.extend(proto.graph.input)
    bare.graph.output.extend(proto.graph.output)
    bare.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    return bare


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and every graph inside its nodes, outermost first."""
    waiting = [graph]
    while waiting:
        found = waiting.pop()
        yield found
        for node in found.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _forget(graph: onnx.GraphProto) -> None:
    for each in subgraphs(graph):
        del each.value_info[:]
        for output in each.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
