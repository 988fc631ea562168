"""Write sparse stored tensors out as dense ones, which every tool reads and every stage works on."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import SparseTensorProto, TensorProto, numpy_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.skeleton import graphs, nodes
from crisp_onnx.model.tensors import tensor_bytes
from crisp_onnx.reading import border, shown

MAX_BYTES = 1 << 30
"""Of all sparse tensors of a file together, written out: a few indices can stand for terabytes."""


def write_out_sparse(proto: onnx.ModelProto, path: Path) -> None:
    """Replace, in place, sparse initializers by dense ones and `sparse_value` of Constant nodes by `value`.

    Raises:
        CrispError: a sparse tensor contradicts itself, or all of them take more than 1 GiB written out.
    """
    left = MAX_BYTES
    for graph in graphs(proto):
        for sparse in graph.sparse_initializer:
            dense = _dense(sparse, f"Sparse tensor {shown(sparse.values.name)!r} of {path}", left)
            left -= len(dense.raw_data)
            graph.initializer.append(dense)
        del graph.sparse_initializer[:]
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                what = f"The sparse_value of node {shown(node.name or node.op_type)!r} in {path}"
                dense = _dense(attribute.sparse_tensor, what, left)
                left -= len(dense.raw_data)
                attribute.CopyFrom(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=dense))


def _dense(sparse: SparseTensorProto, what: str, most_bytes: int) -> TensorProto:
    """The dense tensor, under the name of the sparse one's values."""
    shape = list(sparse.dims)
    whole = TensorProto(data_type=sparse.values.data_type, dims=shape)
    wanted = tensor_bytes(whole, what)
    if wanted > most_bytes:
        raise CrispError(f"{what} takes {wanted / 1e9:.3g} GB written out, too much. Export the model with less of it.")
    with border(f"{what} cannot be written out", "Export the model without sparse tensors."):
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        if indices.ndim == 2 and indices.shape[1] == len(shape):
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        dense = np.zeros(prod(shape), values.dtype)
        if indices.ndim != 1 or values.shape != indices.shape or (indices < 0).any() or (indices >= dense.size).any():
            raise CrispError(
                f"{what} has {values.size} values at {indices.size} places that do not all lie in its shape {shape}. "
                "Export the model again."
            )
        dense[indices] = values
        return numpy_helper.from_array(dense.reshape(shape), sparse.values.name)
