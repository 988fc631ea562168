"""`check --groups` prints every group of channels, what it goes through, what a channel costs and what binds it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from small_models import residual_classifier

from crisp_onnx.cli import cli


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
