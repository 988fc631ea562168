"""A graph without the data of its weights: small enough to copy, check and infer shapes on, whatever it weighs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import onnx
from google.protobuf.message import Message
from onnx import helper

from crisp_onnx.model.overridable import overridable

DATA_OVER_ELEMENTS = 256
"""Tensors up to this size keep their values: shapes are computed from them."""


def skeleton(proto: onnx.ModelProto, *, hints: bool = True) -> onnx.ModelProto:
    """A copy of `proto` in which every initializer of more than 256 elements is a graph input of its type and shape.

    Without `hints` the copy also lacks what the file says of inner tensors and of its outputs' shapes, in subgraphs
    too: files are edited, and then keep the shapes of what they were.
    """
    bare = without_weights(proto)
    graph = bare.graph
    if not hints:
        _forget(bare)
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
    names = {tensor.name for tensor in moved} - overridable(proto).keys()
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
    """A copy of `proto` but for its initializers."""
    bare = onnx.ModelProto()
    _copy_fields(proto, bare, but="graph")
    _copy_fields(proto.graph, bare.graph, but="initializer")
    return bare


def _copy_fields(source: Message, target: Message, *, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(target, field.name, value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            getattr(target, field.name).extend(value)


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph, and every graph inside a node of it or of a function."""
    yield proto.graph
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the graph, of its functions, and of the graphs inside them."""
    return nodes_in(proto.graph.node, *(function.node for function in proto.functions))


def nodes_in(*lists: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node of `lists`, and of the graphs inside them."""
    waiting = list(lists)
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting += [attribute.g.node] if attribute.HasField("g") else []
                waiting += [graph.node for graph in attribute.graphs]


def _forget(proto: onnx.ModelProto) -> None:
    for graph in graphs(proto):
        del graph.value_info[:]
        for output in graph.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
