"""Weights that a caller may override survive a whole run: still inputs, still dense, and said."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from crisp_onnx.model.overridable import overridable


@pytest.fixture
def model_with_inputs(workplace, tmp_path):
    def build(wanted):
        proto = onnx.load(workplace.model)
        for tensor in proto.graph.initializer:
            if wanted(tensor.name):
                proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        path = tmp_path / "given.onnx"
        onnx.save(proto, path)
        return path

    return build


def words(workplace, model, out):
    return [model if word == str(workplace.model) else word for word in workplace.options] + ["-o", out, "-q", "--json"]


def test_a_weight_of_the_interface_stays_there_and_stays_dense(run, workplace, model_with_inputs, tmp_path):
    model = model_with_inputs(lambda name: name == "conv2.weight")
    done = run(*words(workplace, model, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["conv1"]["decision"] == "sparse"
    assert "which a caller may override" in layers["conv2"]["reason"]
    assert any("may override stay as they are: 'conv2.weight'" in note for note in report["notes"])
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_overridable_initializers()] == ["conv2.weight"]
    image = np.random.default_rng(0).random((1, 3, 12, 12), np.float32)
    zeros = np.zeros((32, 32, 3, 3), np.float32)
    plain, other = (session.run(None, {"image": image, **more})[0] for more in ({}, {"conv2.weight": zeros}))
    assert not np.allclose(plain, other)
    checked = run("check", model)
    assert "may override stay as they are" in checked.stdout.replace("\n", " ")


def test_inputs_of_every_initializer_are_dropped_and_that_is_said(run, workplace, model_with_inputs, tmp_path):
    done = run(*words(workplace, model_with_inputs(lambda name: True), tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert any("are inputs of its graph as well" in note for note in report["notes"])
    result = onnx.load(tmp_path / "out" / "model.onnx")
    assert [value.name for value in result.graph.input] == ["image"]
    assert not overridable(result)
