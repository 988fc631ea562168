"""Matrix products: Gemm, MatMul, Einsum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    a = a.T if node.integer("transA", 0) else a
    b = b if node.integer("transB", 0) else b.T
    if alpha == beta == 1.0 and (c is None or c.ndim == 1):
        # linear() wants one bias per output; a single one broadcasts.
        return functional.linear(a, b, c if c is None or c.shape[0] == b.shape[0] else c.expand(b.shape[0]))
    product = alpha * functional.linear(a, b)
    return product if c is None else product + beta * c


def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


def einsum(node: Node, *tensors: Tensor) -> Tensor:
    result: Tensor = torch.einsum(node.text("equation", ""), *tensors)
    return result


MATRIX = {"Gemm": Operator(gemm), "MatMul": Operator(matmul), "Einsum": Operator(einsum)}
