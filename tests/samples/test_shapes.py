"""The segmentation sample at a tiny size: what it draws, and a model whose answers are those of its labels' form."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "samples" / "shapes" / "train.py"


@pytest.fixture(scope="module")
def sample() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_drawing_repeats_itself_and_shows_every_class(sample: dict[str, Any]) -> None:
    images, labels = sample["draw"](16, seed=3)
    again = sample["draw"](16, seed=3)
    assert np.array_equal(images, again[0]) and np.array_equal(labels, again[1])
    assert images.shape == (16, 48, 48, 3) and labels.shape == (16, 48, 48)
    assert set(np.unique(labels)) == set(range(6))


def test_the_script_writes_a_u_net_with_images_and_labels_of_one_stem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--epochs", "1", "--images", "8", "--width", "4"]
    monkeypatch.setattr(sys, "argv", ["train.py", "--output", str(tmp_path / "s"), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    for split, count in (("train", 8), ("val", 2)):
        stems = [
            sorted(path.stem for path in (tmp_path / "s" / split / part).iterdir()) for part in ("images", "labels")
        ]
        assert stems[0] == stems[1] and len(stems[0]) == count
    label = Image.open(tmp_path / "s" / "val" / "labels" / "0000.png")
    assert label.mode == "P" and np.asarray(label).max() < 6
    operators = {node.op_type for node in onnx.load(tmp_path / "s" / "shapes.onnx").graph.node}
    assert {"ConvTranspose", "Resize", "Concat", "BatchNormalization"} <= operators
    session = ort.InferenceSession(str(tmp_path / "s" / "shapes.onnx"), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"image": np.zeros((3, 3, 48, 48), np.float32)})
    assert answers.shape == (3, 6, 48, 48)
