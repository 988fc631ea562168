"""The onnx package's well-known topologies: `check` and a one-shot `compress` work, or decline with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
QUICK = ("squeezenet", "shufflenet", "inception_v1")
SLOW = ("bvlc_alexnet", "densenet121", "inception_v2", "resnet50", "vgg19", "zfnet512")
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
NOTHING_TO_PRUNE = {"shufflenet": "grouped convolution"}
CLASSES = (1, 3, 980)


@pytest.fixture
def options(tmp_path):
    (tmp_path / "cls.txt").write_text("\n".join(map(str, CLASSES)))
    return [
        "--classes",
        tmp_path / "cls.txt",
        "--preprocess",
        "imagenet",
        "--epochs",
        "0",
        "--target",
        "portable",
        "-o",
        tmp_path / "out",
        "-q",
    ]


@pytest.fixture
def noise(tmp_path):
    """Four images a class; what they show does not matter here."""
    labels = np.repeat(CLASSES, 4)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 224, 224, 3), np.uint8)
    np.savez(tmp_path / "noise.npz", x=images, y=labels)
    return tmp_path / "noise.npz"


@pytest.mark.parametrize("name", NAMES)
def test_check_reads_the_model(run, name):
    found = json.loads(run("check", LIGHT / f"light_{name}.onnx", "--json", "-q").stdout)
    assert not found["missing"]
    assert all(item["layer"]["positions"] for item in found["layers"])
    assert sum(item["reason"].startswith("classifier") for item in found["layers"]) == 1
    assert (found["prunable_macs"] == 0) == (name in NOTHING_TO_PRUNE)
    assert any("1000 classes" in note for note in found["notes"])
    assert bool(found["refusal"]) == (name in NOTHING_TO_PRUNE)


def compressed_or_declined(run, name, words, out):
    done = run("compress", LIGHT / f"light_{name}.onnx", *words)
    if name in NOTHING_TO_PRUNE:
        assert done.returncode == 2
        assert "No prunable layer" in done.stderr
        assert NOTHING_TO_PRUNE[name] in done.stderr
        assert not out.exists()
        return
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)
    assert len(onnx.load(out / "model.onnx", load_external_data=False).graph.input) == 1
    report = json.loads((out / "report.json").read_text())
    assert report["equivalence"]["worst_relative"] <= 1e-5
    assert report["sparsity"]["weights"] == pytest.approx(0.8, abs=0.005)
    assert report["file"]["bytes"] == pytest.approx(report["file"]["bytes_formula"], rel=0.02)
    found = json.loads(run("inspect", out / "model.onnx", "--json", "-q").stdout)
    assert len(found["layers"]) == sum(layer["decision"] == "sparse" for layer in report["layers"])


@pytest.mark.parametrize("name", [*QUICK[:2], *(pytest.param(n, marks=pytest.mark.slow) for n in (QUICK[2], *SLOW))])
def test_a_one_shot_run_on_images_works_or_declines(run, name, options, noise, tmp_path):
    compressed_or_declined(run, name, [*options, "--data", noise], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_a_one_shot_run_without_data_works_or_declines(run, name, options, tmp_path):
    compressed_or_declined(run, name, options, tmp_path / "out")
