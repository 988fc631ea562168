"""Activation functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator


def relu(node: Node, x: Tensor) -> Tensor:
    return functional.relu(x)


def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.number("alpha", 0.01))


def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.number("alpha", 1.0))


def celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.number("alpha", 1.0))


def selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    return gamma * functional.elu(x, alpha)


def sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.number("alpha", 0.2) * x + node.number("beta", 0.5), 0.0, 1.0)


def hard_swish(node: Node, x: Tensor) -> Tensor:
    return functional.hardswish(x)


def swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.number("alpha", 1.0)
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def mish(node: Node, x: Tensor) -> Tensor:
    return functional.mish(x)


def gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.text("approximate", "none"))


def softplus(node: Node, x: Tensor) -> Tensor:
    return functional.softplus(x)


def softsign(node: Node, x: Tensor) -> Tensor:
    return functional.softsign(x)


def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.number("alpha", 1.0), x, torch.zeros_like(x))


def shrink(node: Node, x: Tensor) -> Tensor:
    bias, lambd = node.number("bias", 0.0), node.number("lambd", 0.5)
    low = torch.where(x < -lambd, x + bias, torch.zeros_like(x))
    return torch.where(x > lambd, x - bias, low)


def softmax(node: Node, x: Tensor) -> Tensor:
    return functional.softmax(x, node.integer("axis", -1))


def log_softmax(node: Node, x: Tensor) -> Tensor:
    return functional.log_softmax(x, node.integer("axis", -1))


def dropout(
    node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Dropout of an inference graph: the input itself, and a mask that keeps everything."""
    if training is not None and bool(training) and (ratio is None or float(ratio) != 0.0):
        raise node.refusal("training_mode is set; export the model for inference")
    return (x, torch.ones_like(x, dtype=torch.bool)) if node.wants(1) else x


ACTIVATION = {
    "Relu": Operator(relu),
    "LeakyRelu": Operator(leaky_relu),
    "PRelu": Operator(prelu),
    "Elu": Operator(elu),
    "Celu": Operator(celu),
    "Selu": Operator(selu),
    "Sigmoid": Operator(sigmoid),
    "HardSigmoid": Operator(hard_sigmoid),
    "HardSwish": Operator(hard_swish),
    "Swish": Operator(swish),
    "Mish": Operator(mish),
    "Gelu": Operator(gelu),
    "Softplus": Operator(softplus),
    "Softsign": Operator(softsign),
    "ThresholdedRelu": Operator(thresholded_relu),
    "Shrink": Operator(shrink),
    "Softmax": Operator(softmax),
    "LogSoftmax": Operator(log_softmax),
    "Dropout": Operator(dropout),
}
