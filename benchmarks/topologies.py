"""Networks at 224x224 by name: the published shapes, seeded weights, BatchNorm folded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx

from benchmarks.network import CLASSES, Network, Sparsity
from benchmarks.normalised import convnext_t, vit_s16


def resnet50(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """He et al. 2015, table 1; stride in the 3x3 convolutions, as trained checkpoints have it."""
    net = Network(sparsity, hybrid)
    x = net.conv("x", 3, 64, 7, 2, sparse=False)
    x = net.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    cin = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            shortcut = net.conv(x, cin, 4 * width, 1, stride, upper=None) if block == 0 else x
            y = net.conv(x, cin, width)
            y = net.conv(y, width, width, 3, stride)
            x = net.conv(y, width, 4 * width, residual=shortcut)
            cin = 4 * width
    return _finish(net, x, cin, side, "resnet50")


def vgg16(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Simonyan and Zisserman 2014, configuration D."""
    net, x, cin = Network(sparsity, hybrid), "x", 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for _ in range(count):
            x = net.conv(x, cin, width, 3, sparse=cin > 3)
            cin = width
        x = net.node("MaxPool", [x], f"pool{stage}", kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", [x], "flat")
    x = net.gemm(x, cin, 4096, relu=True, positions=(side // 32) ** 2)
    x = net.gemm(x, 4096, 4096, relu=True)
    return net.model(net.gemm(x, 4096, CLASSES, relu=False), CLASSES, side, "vgg16")


def mobilenet_v2(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Sandler et al. 2018, table 2; depthwise convolutions and the first convolution stay dense."""
    net = Network(sparsity, hybrid)
    x, cin = net.conv("x", 3, 32, 3, 2, sparse=False, upper=6.0), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, blocks, first_stride in stages:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            middle = cin * expand
            y = net.conv(x, cin, middle, upper=6.0) if expand > 1 else x
            y = net.conv(y, middle, middle, 3, stride, upper=6.0, sparse=False, groups=middle)
            keeps = stride == 1 and cin == width
            x = net.conv(y, middle, width, upper=None, residual=x if keeps else "")
            cin = width
    return _finish(net, net.conv(x, cin, 1280, upper=6.0), 1280, side, "mobilenet_v2")


def efficientnet_lite0(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Liu et al. 2020: EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation, ReLU6."""
    net = Network(sparsity, hybrid)
    x, cin = net.conv("x", 3, 32, 3, 2, sparse=False, upper=6.0), 32
    stages = (
        *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
        *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
    )
    for expand, width, blocks, first_stride, kernel in stages:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            middle = cin * expand
            y = net.conv(x, cin, middle, upper=6.0) if expand > 1 else x
            y = net.conv(y, middle, middle, kernel, stride, upper=6.0, sparse=False, groups=middle)
            keeps = stride == 1 and cin == width
            x = net.conv(y, middle, width, upper=None, residual=x if keeps else "")
            cin = width
    return _finish(net, net.conv(x, cin, 1280, upper=6.0), 1280, side, "efficientnet_lite0")


def mobilenet_v3(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Howard et al. 2019, table 1 (Large): squeeze and excitation, HardSwish."""
    net = Network(sparsity, hybrid)
    x, cin = _hard_swish(net, net.conv("x", 3, 16, 3, 2, sparse=False, upper=None)), 16
    rows = (
        *((3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2)),
        *((5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1)),
        *((3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1)),
        *((5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1)),
    )
    for kernel, middle, width, squeezed, swish, stride in rows:
        upper = None if swish else math.inf
        y = net.conv(x, cin, middle, upper=upper) if middle > cin else x
        y = _hard_swish(net, y) if swish and middle > cin else y
        y = net.conv(y, middle, middle, kernel, stride, upper=upper, sparse=False, groups=middle)
        y = _hard_swish(net, y) if swish else y
        y = _squeeze(net, y, middle) if squeezed else y
        x = net.conv(y, middle, width, upper=None, residual=x if stride == 1 and cin == width else "")
        cin = width
    x = _hard_swish(net, net.conv(x, cin, 960, upper=None))
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "average")], "flat")
    x = _hard_swish(net, net.gemm(x, 960, 1280, relu=False))
    return net.model(net.gemm(x, 1280, CLASSES, relu=False), CLASSES, side, "mobilenet_v3")


def _hard_swish(net: Network, x: str) -> str:
    return net.node("HardSwish", [x], f"{x}.swish")


def _squeeze(net: Network, x: str, channels: int) -> str:
    """Every channel times what a small network of all channels' averages says."""
    fewer = -(-channels // 32) * 8  # a quarter, a multiple of eight
    average = net.node("GlobalAveragePool", [x], f"{x}.average")
    y = net.conv(net.conv(average, channels, fewer), fewer, channels, upper=None)
    gate = net.node("HardSigmoid", [y], f"{y}.gate", alpha=1 / 6, beta=0.5)
    return net.node("Mul", [x, gate], f"{x}.excited")


def _finish(net: Network, x: str, cin: int, side: int, name: str) -> onnx.ModelProto:
    x = net.node("GlobalAveragePool", [x], "average")
    x = net.node("Flatten", [x], "flat")
    return net.model(net.gemm(x, cin, CLASSES, relu=False), CLASSES, side, name)


TOPOLOGIES: Mapping[str, Callable[..., onnx.ModelProto]] = MappingProxyType(
    {
        "resnet50": resnet50,
        "vgg16": vgg16,
        "mobilenet_v2": mobilenet_v2,
        "efficientnet_lite0": efficientnet_lite0,
        "mobilenet_v3": mobilenet_v3,
        "convnext_t": convnext_t,
        "vit_s16": vit_s16,
    }
)
