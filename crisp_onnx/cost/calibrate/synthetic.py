"""Random small networks whose layers are timed in place: convolutions, residuals, pools, tokens, a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from crisp_onnx.cost.calibrate.blocks import random_block
from crisp_onnx.cost.calibrate.builder import Builder, random_width
from crisp_onnx.model import Model

IMAGE_SIDES = (20, 28, 40, 48, 64, 96, 112, 136, 160, 192, 224, 224)
STEM_KERNELS = (3, 3, 5, 7)
MAX_CLASSIFIER_WEIGHTS = 16_000_000
CLAMPING = 3  # every third network


def synthetic_network(seed: int) -> Model:
    """Network number `seed`: about a dozen layers in the way real ones stand together."""
    rng = np.random.default_rng(seed)
    image = int(rng.choice(IMAGE_SIDES))
    builder = Builder(rng, 3, image, clamps=seed % CLAMPING == 0)
    builder.conv(
        random_width(rng, 16, 72), int(rng.choice(STEM_KERNELS)), int(rng.choice((1, 2))) if image < 100 else 2
    )
    for _ in range(int(rng.integers(4, 8))):
        random_block(builder)
    outputs = int(rng.integers(10, 1200))
    builder.classifier(outputs, as_conv=rng.random() < 0.4, hidden=_hidden(builder, outputs))
    if rng.random() < 0.5:
        builder.op("Softmax")
    graph = helper.make_graph(
        builder.nodes,
        f"synthetic{seed}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, image, image])],
        [helper.make_tensor_value_info(builder.head, TensorProto.FLOAT, [1, outputs])],
        builder.stored,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model(proto, Path(f"synthetic{seed}.onnx"), "")


def _hidden(b: Builder, outputs: int) -> tuple[int, ...]:
    """In every third network the widths of one or two layers before the last, while their weights are affordable."""
    if b.rng.random() > 1 / 3:
        return ()
    most = int(min(4096, MAX_CLASSIFIER_WEIGHTS / (b.channels * b.side**2 + outputs)))
    if most < 32:
        return ()
    return tuple(random_width(b.rng, 32, most) for _ in range(int(b.rng.integers(1, 3))))
