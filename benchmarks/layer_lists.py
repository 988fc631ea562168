"""Layer lists of the networks that papers compare on, without weights, for estimates of what a pattern would give."""

from __future__ import annotations

from collections.abc import Callable

from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import Layer, product_kind
from crisp_onnx.lowering.matrix import Matrix, conv_matrix, product_matrix

# (matrix, whether pruning methods prune this layer) -> pattern of its weights
Choose = Callable[[Matrix, bool], LayerSparsity]


def resnet50(choose: Choose) -> list[Layer]:
    """ResNet-50 with stride in the 3x3 convolutions, one 224 x 224 image; additions fused."""
    layers = [_conv("conv1", (3, 64), (7, 2), 224, choose, prunable=False)]
    layers.append(Layer("maxpool", "MaxPool", "pool", inputs=64 * 112 * 112, outputs=64 * 56 * 56))
    channels, side = 64, 56
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            name, out = f"layer{stage}.{block}", side // stride
            layers.append(_conv(f"{name}.conv1", (channels, width), (1, 1), side, choose))
            layers.append(_conv(f"{name}.conv2", (width, width), (3, stride), side, choose))
            if block == 0:
                layers.append(_conv(f"{name}.downsample", (channels, 4 * width), (1, stride), side, choose))
            residual = 4 * width * out * out
            layers.append(_conv(f"{name}.conv3", (width, 4 * width), (1, 1), out, choose, residual=residual))
            channels, side = 4 * width, out
    layers.append(Layer("avgpool", "GlobalAveragePool", "pool", inputs=2048 * 49, outputs=2048))
    return [*layers, _dense("fc", 2048, 1000, choose)]


def vgg16(choose: Choose) -> list[Layer]:
    """VGG-16, one 224 x 224 image."""
    layers: list[Layer] = []
    channels, side = 3, 224
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for number in range(1, count + 1):
            name = f"conv{stage}_{number}"
            layers.append(_conv(name, (channels, width), (3, 1), side, choose, prunable=bool(layers)))
            channels = width
        pooled = side // 2
        layers.append(
            Layer(f"pool{stage}", "MaxPool", "pool", inputs=width * side * side, outputs=width * pooled * pooled)
        )
        side = pooled
    sizes = (512 * 7 * 7, 4096, 4096, 1000)
    return layers + [_dense(f"fc{n + 6}", sizes[n], sizes[n + 1], choose) for n in range(3)]


def mobilenet_v2(choose: Choose) -> list[Layer]:
    """MobileNetV2 1.0, one 224 x 224 image; depthwise convolutions are never pruned."""
    layers = [_conv("stem", (3, 32), (3, 2), 224, choose, prunable=False)]
    channels, side, number = 32, 112, 0
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, count, first_stride in plan:
        for repeat in range(count):
            stride = first_stride if repeat == 0 else 1
            wide, name, out = channels * expand, f"block{number}", side // stride
            if expand > 1:
                layers.append(_conv(f"{name}.expand", (channels, wide), (1, 1), side, choose))
            layers.append(
                _conv(f"{name}.depthwise", (wide, wide), (3, stride), side, choose, prunable=False, groups=wide)
            )
            residual = width * out * out if stride == 1 and channels == width else 0
            layers.append(_conv(f"{name}.project", (wide, width), (1, 1), out, choose, residual=residual))
            channels, side, number = width, out, number + 1
    layers.append(_conv("head", (320, 1280), (1, 1), 7, choose))
    layers.append(Layer("avgpool", "GlobalAveragePool", "pool", inputs=1280 * 49, outputs=1280))
    return [*layers, _dense("fc", 1280, 1000, choose)]


NETWORKS: dict[str, Callable[[Choose], list[Layer]]] = {
    "ResNet-50": resnet50,
    "VGG-16": vgg16,
    "MobileNetV2": mobilenet_v2,
}


def _conv(
    name: str,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    side: int,
    choose: Choose,
    *,
    prunable: bool = True,
    groups: int = 1,
    residual: int = 0,
) -> Layer:
    """`channels`: in and out; `kernel`: side and stride; `side`: rows and columns of the input."""
    size, stride = kernel
    pad = size // 2
    matrix = conv_matrix(
        (channels[1], channels[0] // groups, size, size),
        (1, channels[0], side, side),
        stride=(stride, stride),
        pads=(pad, pad, pad, pad),
        residuals=residual,
    )
    return Layer(name, "Conv", product_kind(matrix, "Conv"), matrix, choose(matrix, prunable))


def _dense(name: str, inputs: int, outputs: int, choose: Choose) -> Layer:
    matrix = product_matrix(outputs, inputs, 1)
    return Layer(name, "Gemm", product_kind(matrix, "Gemm"), matrix, choose(matrix, True))
