"""Of well-known topologies, as torch exports them, every layer can lose channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.channel_coverage import coverage, exported
from crisp_onnx.task.kinds import CLASSIFICATION, SEGMENTATION

SCALE = 1 / 16
QUICK = ("SqueezeNet", "ShuffleNetV2", "U-Net")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        pytest.param(*row, marks=() if row[0] in QUICK else pytest.mark.slow, id=row[0])
        for row in (
            ("ResNet-50", 54), ("VGG-19", 19), ("DenseNet-121", 121), ("MobileNetV2", 53), ("EfficientNet-B0", 82),
            ("Inception-v3", 95), ("ShuffleNetV2", 57), ("SqueezeNet", 26), ("U-Net", 23), ("ViT-B/16", 50),
        )
    ],
)  # fmt: skip
def test_every_layer_of_a_topology_can_lose_channels(tmp_path: Path, name: str, layers: int) -> None:
    found = coverage(exported(name, tmp_path, SCALE), SEGMENTATION if name == "U-Net" else CLASSIFICATION)
    assert (found.layers, found.covered, found.missing) == (layers, layers, ())
    assert found.macs == pytest.approx(1)
    assert found.halved < 0.5
