"""Networks of layer normalisation and GELU, ViT-S/16 and ConvNeXt-T, in the operators that torch's export writes."""

from __future__ import annotations

import math

import numpy as np
import onnx

from benchmarks.network import CLASSES, Network, Sparsity

PATCH, WIDTH, DEPTH, HEADS = 16, 384, 12, 6


def vit_s16(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Dosovitskiy et al. 2020 in the small size of Touvron et al. 2020: 12 blocks, 384 channels, 6 heads."""
    net = Network(sparsity, hybrid)
    patches = (side // PATCH) ** 2
    x = net.conv("x", 3, WIDTH, PATCH, PATCH, sparse=False, upper=None, pad=0)
    x = net.transpose(net.reshape(x, [0, WIDTH, patches]), [0, 2, 1])
    x = net.node("Concat", [_class_token(net), x], "tokens", axis=1)
    rng = np.random.default_rng(0)
    places = rng.standard_normal((1, patches + 1, WIDTH), dtype=np.float32)
    x = net.node("Add", [x, net.add("places", places)], "placed")
    for _ in range(DEPTH):
        x = _attention(net, x, patches + 1)
        y = net.gelu(net.linear(net.layer_norm(x, WIDTH), WIDTH, 4 * WIDTH))
        x = net.linear(y, 4 * WIDTH, WIDTH, residual=x)
    first = net.add("first", np.int64(0))
    x = net.node("Gather", [net.layer_norm(x, WIDTH), first], "answer", axis=1)
    return net.model(net.gemm(x, WIDTH, CLASSES, relu=False), CLASSES, side, "vit_s16")


def _class_token(net: Network) -> str:
    """(N, 1, 384), N the images of the input."""
    token = net.add("token", np.random.default_rng(0).standard_normal((1, 1, WIDTH), dtype=np.float32))
    batch = net.node("Slice", [net.node("Shape", ["x"], "x.shape"), *_ends(net)], "x.batch")
    shape = net.node("Concat", [batch, net.add("token.sides", np.array([1, WIDTH], np.int64))], "token.shape", axis=0)
    return net.node("Expand", [token, shape], "token.expanded")


def _ends(net: Network) -> list[str]:
    return [net.add(name, np.array([end], np.int64)) for name, end in (("batch.start", 0), ("batch.end", 1))]


def _attention(net: Network, x: str, tokens: int) -> str:
    """Multi-head attention of the tokens to one another, added to them."""
    size = WIDTH // HEADS
    y = net.linear(net.layer_norm(x, WIDTH), WIDTH, 3 * WIDTH)
    y = net.transpose(net.reshape(y, [0, tokens, 3, HEADS, size]), [2, 0, 3, 1, 4])
    name = f"attention{net.next_layer()[0]}"
    places = [net.add(f"{name}.{part}", np.int64(place)) for place, part in enumerate(("q", "k", "v"))]
    query, key, value = (net.node("Gather", [y, place], f"{place}.taken", axis=0) for place in places)
    scale = net.add(f"{name}.scale", np.float32(1 / math.sqrt(size)))
    query = net.node("Mul", [query, scale], f"{name}.query")
    key = net.node("Transpose", [key], f"{name}.key", perm=[0, 1, 3, 2])
    weights = net.node("Softmax", [net.node("MatMul", [query, key], f"{name}.scores")], f"{name}.weights", axis=-1)
    mixed = net.node("MatMul", [weights, value], f"{name}.mixed")
    y = net.reshape(net.transpose(mixed, [0, 2, 1, 3]), [0, tokens, WIDTH])
    return net.linear(y, WIDTH, WIDTH, residual=x)


def convnext_t(sparsity: Sparsity, *, hybrid: bool, side: int = 224) -> onnx.ModelProto:
    """Liu et al. 2022, table 9: 3, 3, 9 and 3 blocks of 96, 192, 384 and 768 channels."""
    net = Network(sparsity, hybrid)
    x, cin = net.conv("x", 3, 96, 4, 4, sparse=False, upper=None, pad=0), 96
    x = _norm_of_channels(net, x, cin)
    for width, blocks in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if width != cin:
            x = net.conv(_norm_of_channels(net, x, cin), cin, width, 2, 2, upper=None, pad=0)
            cin = width
        for _ in range(blocks):
            x = _convnext_block(net, x, width)
    x = net.node("GlobalAveragePool", [x], "average")
    x = net.layer_norm(net.node("Flatten", [x], "flat"), cin)
    return net.model(net.gemm(x, cin, CLASSES, relu=False), CLASSES, side, "convnext_t")


def _norm_of_channels(net: Network, x: str, channels: int) -> str:
    return net.transpose(net.layer_norm(net.transpose(x, [0, 2, 3, 1]), channels), [0, 3, 1, 2])


def _convnext_block(net: Network, x: str, width: int) -> str:
    y = net.conv(x, width, width, 7, upper=None, sparse=False, groups=width)
    y = net.layer_norm(net.transpose(y, [0, 2, 3, 1]), width)
    y = net.linear(net.gelu(net.linear(y, width, 4 * width)), 4 * width, width)
    number, rng = net.next_layer()
    scale = net.add(f"scale{number}", np.float32(1) + net.bias(rng, width))
    y = net.transpose(net.node("Mul", [y, scale], f"scaled{number}"), [0, 3, 1, 2])
    return net.node("Add", [x, y], f"block{number}")
