"""The stored tensors of a file: where they stand, how many bytes their shape takes, and whether they hold as many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

import onnx
from onnx import TensorProto, helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.skeleton import graphs, nodes
from crisp_onnx.reading import shown

_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def stored_tensors(proto: onnx.ModelProto) -> Iterator[tuple[TensorProto, str]]:
    """Every tensor that the file stores, subgraphs and functions included, with the words that name it in a message."""
    for graph in graphs(proto):
        for tensor in graph.initializer:
            yield tensor, f"Tensor {_name(tensor.name)}"
        for sparse in graph.sparse_initializer:
            name = _name(sparse.values.name)
            yield sparse.values, f"Sparse tensor {name}"
            yield sparse.indices, f"The indices of sparse tensor {name}"
    for node in nodes(proto):
        for attribute in node.attribute:
            what = f"Attribute {_name(attribute.name)} of node {_name(node.name or node.op_type)}"
            if attribute.HasField("t"):
                yield attribute.t, what
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values, what
                yield attribute.sparse_tensor.indices, what
            for tensor in attribute.tensors:
                yield tensor, what


def _name(name: str | bytes) -> str:
    """In quotes; a damaged name is bytes."""
    return repr(shown(name) if isinstance(name, str) else name)


def stored_types(proto: onnx.ModelProto) -> Counter[str]:
    """How many stored tensors of more than one element have each element type, by ONNX's name of it."""
    tensors = (tensor for tensor, _ in stored_tensors(proto) if prod(tensor.dims) > 1)
    return Counter(TensorProto.DataType.Name(tensor.data_type) for tensor in tensors)


def tensor_bytes(tensor: TensorProto, what: str) -> int:
    """Bytes that shape and element type take in a file; `what` names the tensor in the message.

    Raises:
        CrispError: a negative length, or an element type that ONNX does not know.
    """
    if any(side < 0 for side in tensor.dims):
        raise CrispError(f"{what} has the shape {list(tensor.dims)}, with a negative length. Export the model again.")
    try:
        bits = _BITS.get(TensorProto.DataType.Name(tensor.data_type))
        bits = bits or 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError, TypeError):
        raise CrispError(
            f"{what} has element type {tensor.data_type}, which ONNX does not know. Export the model again."
        ) from None
    return (int(prod(tensor.dims)) * bits + 7) // 8


def check_data(tensor: TensorProto, what: str) -> None:
    """Whether a tensor that is kept in the file itself holds what its shape takes; `what` names it in the message.

    Raises:
        CrispError: it holds more or less.
    """
    wanted, elements = tensor_bytes(tensor, what), prod(tensor.dims)
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        found, possible, unit = len(tensor.raw_data), {wanted}, "bytes"
    else:
        found, unit = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))), "numbers"
        packed = TensorProto.DataType.Name(tensor.data_type) in _BITS
        possible = {elements, wanted} if packed else {elements * (2 if tensor.data_type in _COMPLEX else 1)}
    if found not in possible:
        raise CrispError(
            f"{what} holds {found} {unit}, but its shape {list(tensor.dims)} takes {max(possible)}. "
            "Export the model again."
        )
