"""`check --groups` prints every group of channels, what it goes through, what a channel costs and what binds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from small_models import residual_classifier

from crisp_onnx.cli import cli
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, save


def test_check_prints_every_group_with_its_savings_and_reasons(tmp_path: Path) -> None:
    model = residual_classifier(tmp_path / "small.onnx")
    done = CliRunner().invoke(cli, ["check", str(model), "--groups"])
    assert done.exit_code == 0, done.output
    assert "4 groups of channels" in done.output
    assert "graph input 'image'" in done.output
    assert "2 BatchNormalization, 2 Relu, 1 Add, 1 GlobalAveragePool, 1 Flatten" in done.output


def test_the_document_says_the_same_of_every_group(tmp_path: Path) -> None:
    model = residual_classifier(tmp_path / "small.onnx")
    done = CliRunner().invoke(cli, ["check", str(model), "--groups", "--json", "-q"])
    image, stream, inner, classes = json.loads(done.stdout)["groups"]
    assert [group["removable"] for group in (image, stream, inner, classes)] == [False, True, True, False]
    assert stream["producers"] == ["stem", "conv2"]
    assert stream["consumers"] == ["conv1", "fc"]
    # 144 places; 3x3 windows: rows of the stem and of conv2, columns of conv1, and one of the classifier.
    assert stream["macs_a_channel"] == 144 * 9 * (3 + 32 + 32) + 6
    assert inner["macs_a_channel"] == 144 * 9 * (32 + 32)
    assert inner["bytes_a_channel"] == 4 * (9 * (32 + 32) + 4)


def test_a_model_without_a_layer_for_zeros_is_refused_but_for_its_channels(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    """Its layers are too thin for a block of 16 in 2:4."""
    text = (
        "(float[N,3,8,8] image) => (float[N,4] y) <float[9,3,3,3] a, float[9] b, float[6,9,1,1] c, float[4,6] f>"
        "{ h = Conv(image, a, b) i = Relu(h) j = Conv(i, c) k = Relu(j) p = GlobalAveragePool(k) q = Flatten(p)"
        " y = Gemm<transB = 1>(q, f) }"
    )
    save(model_of(text), tmp_path / "thin.onnx")
    alone, groups = (
        CliRunner().invoke(cli, ["check", str(tmp_path / "thin.onnx"), *more]) for more in ([], ["--groups"])
    )
    assert isinstance(alone.exception, CrispError)
    assert "No prunable layer" in str(alone.exception)
    assert groups.exit_code == 0
    assert "With --method channels it takes the model." in " ".join(alone.output.split())
    assert "compress takes this model with --method channels, and with no other:" in " ".join(groups.output.split())


def test_a_model_none_of_whose_channels_can_go_is_refused_with_groups_alone(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    text = (
        "(float[N,64] x) => (float[N,10] y) <float[64,32] a, float[32,10] b>"
        "{ h = MatMul(x, a) i = Softmax<axis = 1>(h) y = MatMul(i, b) }"
    )
    save(model_of(text), tmp_path / "bound.onnx")
    alone, groups = (
        CliRunner().invoke(cli, ["check", str(tmp_path / "bound.onnx"), *more]) for more in ([], ["--groups"])
    )
    assert alone.exit_code == 0, alone.output
    assert isinstance(groups.exception, CrispError)
    assert "No channel of bound.onnx can be removed" in str(groups.exception)
