"""Load an ONNX file: every way in which a file can be broken is one clear error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from crisp_onnx.errors import CrispError
from crisp_onnx.model.external_data import read_external_data
from crisp_onnx.model.file_kind import other_kind
from crisp_onnx.model.functions import require_few_nodes
from crisp_onnx.model.skeleton import graphs, nodes, skeleton
from crisp_onnx.model.sparse import write_out_sparse
from crisp_onnx.model.spec import DEFAULT_DOMAIN, Model
from crisp_onnx.model.tensors import check_data, stored_tensors
from crisp_onnx.reading import border, reason, require_utf8

LARGEST_FILE_BYTES = (1 << 31) - 1


def load(path: str | Path) -> Model:
    """Read `path` with its external data.

    Raises:
        CrispError: no such file, not ONNX, truncated, external data missing or outside the model's folder, tensors
            that contradict themselves, or a graph that the ONNX checker refuses.
    """
    path = Path(path)
    content = _content(path)
    digest, proto = hashlib.sha256(content), _parsed(content, path)
    file_bytes = len(content)
    del content
    require_few_nodes(proto, path)
    external = read_external_data(proto, path, digest.update)
    for tensor, what in stored_tensors(proto):
        check_data(tensor, f"{what} of {path}")
    write_out_sparse(proto, path)
    _check(proto, path)
    return Model(proto, path, digest.hexdigest(), file_bytes + external.bytes, external.files)


def is_unchanged(model: Model) -> bool:
    """Whether the model's file still holds, with its external data, what was read from it."""
    try:
        content = _content(model.path)
        digest = hashlib.sha256(content)
        read_external_data(_parsed(content, model.path), model.path, digest.update)
    except (CrispError, OSError):
        return False
    return digest.hexdigest() == model.sha256


def read_graph(path: Path) -> onnx.ModelProto:
    """What the file itself holds: not the weights that it keeps in other files, and nothing checked but its form.

    Raises:
        CrispError: no such file, not ONNX, or truncated.
    """
    return _parsed(_content(path), path)


def _content(path: Path) -> bytes:
    require_utf8(path, "Rename the file or its folder.")
    with border(f"{path} cannot be read"):
        if path.is_dir():
            raise CrispError(f"{path} is a folder. Give the path of the ONNX file in it.")
        if not path.is_file():
            what = f"{path} is no ordinary file" if path.exists() else f"No such file: {path}"
            raise CrispError(f"{what}. Give the path of an ONNX model.")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise CrispError(
                f"{path} is larger than 2 GiB, more than an ONNX file can hold. Save the model with external data."
            )
        return path.read_bytes()


def _parsed(content: bytes, path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        kind = other_kind(content[:64])
        if kind:
            raise CrispError(f"{path} is {kind}") from error
        raise CrispError(
            f"{path} is not an ONNX model, or it is truncated ({len(content)} bytes). Export or copy it again."
        ) from error
    if not proto.graph.node or not any(o.domain in DEFAULT_DOMAIN for o in proto.opset_import):
        kind = other_kind(content[:64]) or "not an ONNX model: it holds no graph or names no opset. Export it again."
        raise CrispError(f"{path} is {kind}")
    _require_names(proto, path)
    for graph in graphs(proto):
        graph.name = graph.name or "graph"  # ONNX asks for a name, its runtime does without
    return proto


def _check(proto: onnx.ModelProto, path: Path) -> None:
    """Have ONNX check the graph, without the weights: a model over 2 GiB could not be handed over."""
    bare = skeleton(proto)
    for output in bare.graph.output:  # ONNX Runtime infers what the checker asks for
        tensor = output.type.tensor_type
        if not output.type.WhichOneof("value") or output.type.HasField("tensor_type"):
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(bare)
    except onnx.checker.ValidationError as error:
        raise CrispError(f"{path} is not a valid ONNX model: {reason(error)}.") from error


def _require_names(proto: onnx.ModelProto, path: Path) -> None:
    """Decode every name once: protobuf hands damaged ones out as bytes, or fails, wherever they are first read."""
    try:
        damaged = not all(isinstance(name, str) for name in _names(proto))
    except UnicodeDecodeError:
        damaged = True
    if damaged:
        raise CrispError(f"{path} is not a valid ONNX model: a name in it is no text. Export it again.")
    for holder in (proto, proto.graph):
        if not _is_text(holder):
            holder.ClearField("doc_string")  # a comment in another encoding is no reason to refuse a model


def _is_text(holder: onnx.ModelProto | onnx.GraphProto) -> bool:
    try:
        return isinstance(holder.doc_string, str)
    except UnicodeDecodeError:
        return False


def _names(proto: onnx.ModelProto) -> Iterator[str]:
    yield from (proto.producer_name, proto.producer_version, proto.domain, proto.graph.name)
    yield from (o.domain for o in proto.opset_import)
    for entry in proto.metadata_props:
        yield from (entry.key, entry.value)
    for function in proto.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output)
        yield from (o.domain for o in function.opset_import)
    for node in nodes(proto):
        yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
    for graph in graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for tensor, _ in stored_tensors(proto):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
