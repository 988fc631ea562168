"""The function bodies: a stock runtime gives the answers of the standard operator with the decoded weight."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from crisp_onnx.format import CONV, CONV_ADD, DOMAIN, GEMM, decode, encode, operator_function
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.hybrid import block_mask, block_sums, kept_blocks, nm_mask

NEWEST = min(onnx.defs.onnx_opset_version(), 26)
OPSETS = sorted({13, 17, 18, 21, 23, NEWEST})
CASES = [  # weight shape, pattern, blocks kept, strides, pads, dilations
    ((64, 64, 3, 3), Pattern(2, 4, 32, 2), 5, (1, 1), (1, 1, 1, 1), (1, 1)),
    ((48, 24, 3, 3), Pattern(1, 4, 16, 1), 4, (2, 1), (0, 1, 2, 0), (1, 1)),
    ((100, 37, 1, 1), Pattern(2, 4, 16, 4), 2, (2, 2), (0, 0, 0, 0), (1, 1)),
    ((40, 56, 5, 5), Pattern(2, 8, 16, 8), 30, (1, 1), (2, 2, 2, 2), (1, 1)),
    ((33, 17, 3, 3), Pattern(3, 4, 8, 2), 3, (1, 2), (2, 2, 2, 2), (2, 2)),
    ((16, 16, 1, 3), Pattern(1, 2, 8, 2), 2, (1, 1), (0, 1, 0, 1), (1, 1)),
    ((64, 128, 3, 3), Pattern(4, 4, 64, 16), 3, (1, 1), (1, 1, 1, 1), (1, 1)),
]


def hybrid(shape, pattern, keep, seed=0):  # type: ignore[no-untyped-def]
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    saliency = padded_matrix(np.abs(weight), pattern.block)
    nm = nm_mask(saliency, pattern)
    scores = block_sums(saliency * nm, pattern.block)
    kept = kept_blocks(scores, keep)
    mask = from_matrix(nm & block_mask(kept, scores.shape[1], pattern.block), shape)
    return encode(weight, mask, kept, pattern)


def open_tensor(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])


def model_of(op, opset, tensors, pattern, shape, bias, inputs, rank=4, **window):  # type: ignore[no-untyped-def]
    bounds = {"lower": -0.5, "upper": 2.0}
    names = ["values", "indices", "blocks", "bias"]
    node = helper.make_node(
        op, ["X", *names, *inputs[1:]], ["Y"], domain=DOMAIN, n=pattern.n, m=pattern.m, block=pattern.block,
        vector_rows=pattern.vector_rows, index_bits=pattern.index_bits, weight_shape=list(shape), **bounds, **window,
    )  # fmt: skip
    arrays = (tensors.values, tensors.indices, tensors.blocks, bias)
    graph = helper.make_graph(
        [node],
        "g",
        [open_tensor(name, rank) for name in inputs],
        [open_tensor("Y", rank)],
        [numpy_helper.from_array(a, name) for name, a in zip(names, arrays, strict=True)],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=[operator_function(op, opset)], opset_imports=imports, ir_version=9)
    onnx.checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def assert_close(answer: np.ndarray, expected: torch.Tensor) -> None:
    reference = expected.clamp(-0.5, 2.0).numpy()
    assert answer.shape == reference.shape
    assert np.abs(answer - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c[0])))
def test_the_convolution_bodies_agree_with_conv(opset, case):  # type: ignore[no-untyped-def]
    shape, pattern, keep, strides, pads, dilations = case
    tensors = hybrid(shape, pattern, keep)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(shape[0]).astype(np.float32)
    weight = torch.from_numpy(decode(tensors, shape, pattern))
    window = {"strides": strides, "pads": pads, "dilations": dilations}
    plain = model_of(CONV, opset, tensors, pattern, shape, bias, ["X"], **window)
    added = model_of(CONV_ADD, opset, tensors, pattern, shape, bias, ["X", "Z"], **window)
    for batch in (1, 3):
        x = rng.standard_normal((batch, shape[1], 15, 14)).astype(np.float32)
        padded = functional.pad(torch.from_numpy(x), (pads[1], pads[3], pads[0], pads[2]))
        expected = functional.conv2d(padded, weight, torch.from_numpy(bias), stride=strides, dilation=dilations)
        assert_close(plain.run(None, {"X": x})[0], expected)
        z = rng.standard_normal(expected.shape).astype(np.float32)
        assert_close(added.run(None, {"X": x, "Z": z})[0], expected + torch.from_numpy(z))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("lead", [(5,), (2, 7), (1, 3, 4)], ids=str)
def test_the_gemm_body_agrees_with_a_matrix_product_over_any_leading_axes(opset, lead):  # type: ignore[no-untyped-def]
    shape, pattern = (50, 70, 1, 1), Pattern(2, 4, 16, 8)
    tensors = hybrid(shape, pattern, 2)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(50).astype(np.float32)
    x = rng.standard_normal((*lead, 70)).astype(np.float32)
    session = model_of(GEMM, opset, tensors, pattern, shape, bias, ["X"], rank=len(lead) + 1)
    weight = torch.from_numpy(decode(tensors, shape, pattern)).reshape(50, 70)
    assert_close(session.run(None, {"X": x})[0], torch.from_numpy(x) @ weight.T + torch.from_numpy(bias))


def test_a_stock_runtime_folds_the_expansion_into_one_plain_convolution(tmp_path):  # type: ignore[no-untyped-def]
    shape, pattern = (32, 32, 3, 3), Pattern()
    tensors = hybrid(shape, pattern, 3)
    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    names = ["values", "indices", "blocks", "bias"]
    node = helper.make_node(
        CONV, ["X", *names], ["Y"], domain=DOMAIN, n=2, m=4, block=16, vector_rows=8, index_bits=2,
        weight_shape=shape, lower=0.0, upper=float("inf"), **window,
    )  # fmt: skip
    arrays = (tensors.values, tensors.indices, tensors.blocks, np.zeros(32, np.float32))
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 32, 8, 8])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", 32, 8, 8])],
        [numpy_helper.from_array(a, name) for name, a in zip(names, arrays, strict=True)],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=[operator_function(CONV, 17)], opset_imports=imports, ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert [n.op_type for n in optimised.graph.node] == ["FusedConv"]
