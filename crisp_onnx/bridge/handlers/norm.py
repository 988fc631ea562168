"""Normalisation: over the batch (with given statistics), an instance, a group, a layer, or neighbouring channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.processes import Processes


def batch_norm(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Inference with the stored statistics; a node exported with `training_mode=1` uses those of its batch."""
    epsilon = node.number("epsilon", 1e-5)
    if not node.integer("training_mode", 0):
        return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    keep = node.number("momentum", 0.9)
    axes = (0, *range(2, x.ndim))
    batch_variance, batch_mean = torch.var_mean(x, axes, correction=0)
    y = functional.batch_norm(x, batch_mean, batch_variance, scale, bias, False, 0.0, epsilon)
    return y, mean * keep + batch_mean * (1 - keep), variance * keep + batch_variance * (1 - keep)


def train_batch_norm(
    node: Node, momentum: float | Tensor, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Normalise by the batch and move the running `mean` and `variance` in place, as `torch.nn.BatchNorm2d` does.

    `momentum`: weight of the new batch; a tensor (for cumulative averages) keeps compiled code valid as it changes.
    """
    epsilon = node.number("epsilon", 1e-5)
    if isinstance(momentum, float):
        return functional.batch_norm(x, mean, variance, scale, bias, True, momentum, epsilon)
    batch_mean, batch_variance = torch.zeros_like(mean), torch.ones_like(variance)
    y = functional.batch_norm(x, batch_mean, batch_variance, scale, bias, True, 1.0, epsilon)
    mean.lerp_(batch_mean, momentum)
    variance.lerp_(batch_variance, momentum)
    return y


def shared_batch_norm(
    node: Node,
    processes: Processes,
    momentum: float | Tensor,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
) -> Tensor:
    """As `train_batch_norm`, over the batch that several processes have a share of each."""
    axes, spread = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    exact = x.float()
    count = float(processes.add(torch.tensor(float(x.numel() // x.shape[1]))))
    batch_mean = processes.added(exact.sum(axes)) / count
    centred = exact - batch_mean.reshape(spread)
    batch_variance = processes.added(centred.square().sum(axes)) / count
    with torch.no_grad():
        mean.lerp_(batch_mean, momentum)
        variance.lerp_(batch_variance * count / max(1.0, count - 1), momentum)
    y = centred * (batch_variance + node.number("epsilon", 1e-5)).rsqrt().reshape(spread)
    return (y * scale.reshape(spread) + bias.reshape(spread)).to(x.dtype)


def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node.number("epsilon", 1e-5))


def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.integer("num_groups", 0)
    if node.opset < 21:  # scale and bias are per group there, per channel since
        scale, bias = (t.repeat_interleave(x.shape[1] // groups) for t in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, node.number("epsilon", 1e-5))


def layer_norm(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    axis = node.integer("axis", -1) % x.ndim
    epsilon = node.number("epsilon", 1e-5)
    shape = x.shape[axis:]
    fits = scale.shape == shape and (bias is None or bias.shape == shape)
    if fits:
        y = functional.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = functional.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if not node.wants(1) and not node.wants(2):
        return y
    variance, mean = torch.var_mean(x, tuple(range(axis, x.ndim)), correction=0, keepdim=True)
    return y, mean, (variance + epsilon).rsqrt()


def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axis = node.integer("axis", -1) % x.ndim
    mean_square = x.square().mean(tuple(range(axis, x.ndim)), keepdim=True)
    return x * torch.rsqrt(mean_square + node.number("epsilon", 1e-5)) * scale


def local_response_norm(node: Node, x: Tensor) -> Tensor:
    size = node.integer("size", 1)
    square = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    # The window around channel c reaches from c - floor((size-1)/2) to c + ceil((size-1)/2).
    padded = functional.pad(square, (0, 0, (size - 1) // 2, size // 2))
    mean = functional.avg_pool2d(padded, (size, 1), stride=1).reshape(x.shape)
    base = node.number("bias", 1.0) + node.number("alpha", 1e-4) * mean
    return x / base ** node.number("beta", 0.75)


def lp_norm(node: Node, x: Tensor) -> Tensor:
    axis, p = node.integer("axis", -1), node.integer("p", 2)
    norm = torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = tuple(node.integers("axes", (0, 2, 3)))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-9)


NORM = {
    "BatchNormalization": Operator(batch_norm),
    "InstanceNormalization": Operator(instance_norm),
    "GroupNormalization": Operator(group_norm),
    "LayerNormalization": Operator(layer_norm),
    "RMSNormalization": Operator(rms_norm),
    "LRN": Operator(local_response_norm),
    "LpNormalization": Operator(lp_norm),
    "MeanVarianceNormalization": Operator(mean_variance_norm),
}
