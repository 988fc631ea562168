"""What the loss minds of an output, against a loop over images."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from crisp_onnx.bridge import to_torch
from crisp_onnx.model import tensor_shapes, weight_layers
from crisp_onnx.saliency import output_squares
from crisp_onnx.task import Classification

TEXT = """(float[N,2,5,5] x) => (float[N,4] y) <float[3,2,3,3] w1, float[4,75] w2> {
    [one] a = Conv<pads=[1,1,1,1]>(x, w1)
    r = Relu(a)
    f = Flatten(r)
    [two] y = Gemm<transB=1>(f, w2)
}"""


class Some:
    def __init__(self, x: np.ndarray, labels: np.ndarray) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, places: np.ndarray) -> Some:
        return Some(self.x[places], self.labels[places])

    def batches(self, size: int):
        for start in range(0, len(self.x), size):
            yield self.x[start : start + size], self.labels[start : start + size]


def test_squares_are_those_of_each_image_alone_whatever_the_batch(model_of):
    model = model_of(TEXT)
    layers = weight_layers(model, tensor_shapes(model))
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((7, 2, 5, 5), dtype=np.float32), random.choice([0, 2], 7)
    task = Classification((0, 1, 2, 3), (0, 2), "y", "y")
    module = to_torch(model)
    found = output_squares(module, layers, Some(x, labels), task, batch_size=3)
    w1, w2 = (dict(module.named_parameters())[name].detach() for name in ("w1", "w2"))
    expected = {"one": torch.zeros(3), "two": torch.zeros(4)}
    for image, label in zip(torch.from_numpy(x), labels, strict=True):
        a = functional.conv2d(image[None], w1, padding=1).requires_grad_()
        y = (torch.relu(a).flatten(1) @ w2.T).requires_grad_()
        loss = functional.cross_entropy(y, torch.tensor([label]))
        of_a, of_y = torch.autograd.grad(loss, [a, y])
        expected["one"] += of_a.square().sum((0, 2, 3)) / 7
        expected["two"] += of_y.square().sum(0) / 7
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-4, atol=1e-7)


def test_a_graph_of_a_fixed_batch_is_shown_whole_batches(model_of):
    model = model_of(TEXT.replace("[N,", "[3,"))
    layers = weight_layers(model, tensor_shapes(model))
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((7, 2, 5, 5), dtype=np.float32), random.choice([0, 2], 7)
    task = Classification((0, 1, 2, 3), (0, 2), "y", "y")
    fixed, free = to_torch(model), to_torch(model_of(TEXT))
    fixed.takes = 3
    found = output_squares(fixed, layers, Some(x, labels), task, batch_size=3)
    expected = output_squares(free, layers, Some(x[:6], labels[:6]), task, batch_size=6)
    for name, value in expected.items():
        assert value.sum() > 0
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-9)
