"""Small models for tests: a residual classifier with BatchNorm or without, and images that it can tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 6
SIDE = 12


def residual_classifier(path: Path, *, batch_norm: bool = True, softmax: bool = False, seed: int = 0) -> Path:
    """Stem, one residual block of 32 channels, pooling, classifier; input `image` (N, 3, 12, 12), opset 17."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def store(name: str, value: npt.NDArray[np.generic]) -> str:
        stored.append(numpy_helper.from_array(value, name))
        return name

    def conv(x: str, name: str, cin: int, cout: int, side: int = 3) -> str:
        scale = np.sqrt(2 / (cin * side * side))
        weight = store(f"{name}.weight", (scale * rng.standard_normal((cout, cin, side, side))).astype(np.float32))
        inputs = [x, weight] if batch_norm else [x, weight, store(f"{name}.bias", np.zeros(cout, np.float32))]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_out"], name=name, pads=[side // 2] * 4))
        if not batch_norm:
            return f"{name}_out"
        values = {"gamma": np.ones(cout), "beta": np.zeros(cout), "mean": np.zeros(cout), "var": np.ones(cout)}
        names = [store(f"{name}.bn.{key}", value.astype(np.float32)) for key, value in values.items()]
        nodes.append(
            helper.make_node("BatchNormalization", [f"{name}_out", *names], [f"{name}_norm"], name=f"{name}.bn")
        )
        return f"{name}_norm"

    def node(op: str, inputs: list[str], out: str) -> str:
        nodes.append(helper.make_node(op, inputs, [out], name=out))
        return out

    stem = node("Relu", [conv("image", "stem", 3, 32)], "stem_relu")
    inner = node("Relu", [conv(stem, "conv1", 32, 32)], "inner_relu")
    total = node("Add", [conv(inner, "conv2", 32, 32), stem], "total")
    pooled = node("GlobalAveragePool", [node("Relu", [total], "total_relu")], "pooled")
    flat = node("Flatten", [pooled], "flat")
    store("fc.weight", rng.standard_normal((CLASSES, 32)).astype(np.float32))
    store("fc.bias", np.zeros(CLASSES, np.float32))
    last = "scores" if softmax else "logits"
    nodes.append(helper.make_node("Gemm", [flat, "fc.weight", "fc.bias"], [last], name="fc", transB=1))
    if softmax:
        node("Softmax", ["scores"], "logits")
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def coloured_images(per_class: int = 24, seed: int = 0) -> list[tuple[npt.NDArray[np.uint8], int]]:
    """Noisy images whose mean colour tells the class."""
    rng = np.random.default_rng(seed)
    colours = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30], [30, 220, 220], [220, 30, 220]])
    pairs = []
    for label in range(CLASSES):
        for _ in range(per_class):
            noise = rng.normal(0, 40, (SIDE, SIDE, 3))
            pairs.append((np.clip(colours[label] + noise, 0, 255).astype(np.uint8), label))
    return pairs
