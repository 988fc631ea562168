"""Small networks of every kind that is re-fitted, random plans for them, and rows of numbers to fit to."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.format import Pattern
from crisp_onnx.masks import Candidates, Plan, Threshold
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.recover import put_masks

PATTERN = Pattern(2, 4, 4, 4)

CHAIN = """(float[N,3,9,9] x) => (float[N,5] y)
<float[8,3,3,3] w0, float[12,8,3,3] w1, float[12] b1, float[12,1,3,3] w2, float[12] b2, float[8,12,1,1] w3, float[8] b3,
 float[5,8] w4, float[5] b4> {
    [stem] a0 = Conv<pads=[1,1,1,1]>(x, w0)
    r0 = Relu(a0)
    [first] a1 = Conv<pads=[1,0,1,0], strides=[2,1]>(r0, w1, b1)
    r1 = Relu(a1)
    [depthwise] a2 = Conv<pads=[1,1,1,1], group=12>(r1, w2, b2)
    r2 = Relu(a2)
    [second] a3 = Conv(r2, w3, b3)
    p = GlobalAveragePool(a3)
    f = Flatten(p)
    [head] y = Gemm<transB=1>(f, w4, b4)
}"""

RESIDUAL = """(float[N,8,6,6] x) => (float[N,8,6,6] y)
<float[8,8,3,3] w0, float[8] b0, float[8,8,3,3] w1, float[8] g, float[8] h, float[8] m, float[8] v, float[8,8,3,3] w2,
 float[8] b2> {
    [zero] a0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
    r0 = Relu(a0)
    [one] a1 = Conv<pads=[1,1,1,1]>(r0, w1)
    n1 = BatchNormalization(a1, g, h, m, v)
    r1 = Relu(n1)
    [two] a2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
    s = Add(a2, n1)
    y = Relu(s)
}"""

TOKENS = """(float[N,6,8] x) => (float[N,6,8] y)
<float[8,16] w1, float[16] b1, float[16,8] w2, float[8] b2> {
    [up] a1 = MatMul(x, w1)
    c1 = Add(a1, b1)
    r1 = Relu(c1)
    [down] a2 = MatMul(r1, w2)
    c2 = Add(b2, a2)
    y = Add(x, c2)
}"""

GEMM = """(float[N,12] x) => (float[N,4] y)
<float[12,16] w1, float[16] b1, float[4,16] w2> {
    [up] a1 = Gemm(x, w1, b1)
    r1 = Relu(a1)
    [down] y = Gemm<transB=1>(r1, w2)
}"""


class Numbers:
    """Rows of numbers in place of images. Those of a row depend on each other, as pixels do: else no weight could stand
    in for one that is gone.
    """

    preprocess = SimpleNamespace(size=(9, 9))

    def __init__(self, *shape: int, seed: int = 0) -> None:
        size = int(np.prod(shape[1:]))
        mixing = np.random.default_rng(99).standard_normal((size // 3 + 1, size)) / np.sqrt(size / 3)
        random = np.random.default_rng(seed)
        mixed = random.standard_normal((shape[0], len(mixing))) @ mixing
        self.x = (mixed + 0.2 * random.standard_normal(mixed.shape)).astype(np.float32).reshape(shape)

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self, batch_size: int, *, order: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.float32], None]]:
        for start in range(0, len(order), batch_size):
            yield self.x[order[start : start + batch_size]], None


def pruned(model: Model, *, kept: float = 0.3, left: dict[str, str] | None = None) -> tuple[GraphModule, Plan]:
    """The model's module under the masks of a random plan."""
    layers = weight_layers(model, tensor_shapes(model))
    reasons = {layer.name: layer.obstacle for layer in layers} | (left or {})
    random = np.random.default_rng(5)
    saliency = {layer.weight: random.random(layer.shape, dtype=np.float32) for layer in layers}
    plan = Threshold(Candidates(layers, PATTERN, reasons), kept).plan(saliency)
    module = to_torch(model)
    put_masks(module, plan)
    return module, plan


def answer(module: GraphModule, x: Any) -> npt.NDArray[np.float32]:
    module.eval()
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()
