"""Damaged compressed files: inspect and verify exit with 5 and say what is wrong where."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from crisp_onnx.format import DOMAIN


def tensor_of(proto, part):
    return next(t for t in proto.graph.initializer if t.name.endswith("." + part))


def store(proto, part, array):
    tensor = tensor_of(proto, part)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def blocks_out_of_order(proto):
    store(proto, "blocks", np.ascontiguousarray(numpy_helper.to_array(tensor_of(proto, "blocks"))[:, ::-1]))


def blocks_out_of_range(proto):
    store(proto, "blocks", numpy_helper.to_array(tensor_of(proto, "blocks")) + np.int32(1000))


def a_place_twice(proto):
    store(proto, "indices", np.zeros_like(numpy_helper.to_array(tensor_of(proto, "indices"))))


def values_cut(proto):
    store(proto, "values", np.ascontiguousarray(numpy_helper.to_array(tensor_of(proto, "values"))[:, :-1]))


def no_blocks(proto):
    store(proto, "blocks", numpy_helper.to_array(tensor_of(proto, "blocks"))[:, :0])


def values_doubled(proto):
    store(proto, "values", numpy_helper.to_array(tensor_of(proto, "values")).astype(np.float64))


def attribute(name, value):
    def damage(proto):
        node = next(n for n in proto.graph.node if n.domain == DOMAIN)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))

    return damage


def input_missing(proto):
    node = next(n for n in proto.graph.node if n.domain == DOMAIN)
    del node.input[2:]


DAMAGES = {
    "blocks out of order": (blocks_out_of_order, "not ascending"),
    "blocks out of range": (blocks_out_of_range, "not ascending columns below"),
    "a place twice": (a_place_twice, "does not hold 2 different places of 4"),
    "values cut": (values_cut, "has values of shape"),
    "no blocks": (no_blocks, "at least one block"),
    "other type": (values_doubled, "float64"),
    "no attribute": (attribute("n", None), "lacks 'n'"),
    "impossible pattern": (attribute("n", 9), "Pattern 9:4"),
    "other bits": (attribute("index_bits", 4), "index bits"),
    "short shape": (attribute("weight_shape", [32, 32]), "4 whole numbers in 'weight_shape'"),
    "negative shape": (attribute("weight_shape", [32, -32, 3, 3]), "weight shape"),
    "other shape": (attribute("weight_shape", [64, 32, 3, 3]), "of shape"),
    "text for a number": (attribute("n", "two"), ""),
    "no input": (input_missing, ""),
}


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_named_and_exits_with_5(workplace, compressed, run, tmp_path, command, name):
    damage, words = DAMAGES[name]
    proto = onnx.load(compressed / "model.onnx")
    node = next(n for n in proto.graph.node if n.domain == DOMAIN)
    damage(proto)
    path = tmp_path / "damaged.onnx"
    onnx.save(proto, path)
    done = run(*([command, path] if command == "inspect" else [command, workplace.model, path]), "-q")
    assert done.returncode == 5, done.stderr
    assert words in done.stderr
    assert node.name in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_flipped_bytes_never_give_a_traceback(compressed, run, tmp_path):
    content = (compressed / "model.onnx").read_bytes()
    rng = np.random.default_rng(0)
    codes = set()
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "m.onnx").write_bytes(bytes(damaged))
        done = run("inspect", tmp_path / "m.onnx", "-q", "--json")
        codes.add(done.returncode)
        assert done.returncode in (0, 2, 5), done.stderr
        if done.returncode == 0:
            json.loads(done.stdout)
    assert codes >= {2}


def test_verify_fails_for_another_model_and_for_numbers_that_are_not_finite(
    workplace, compressed, run, tmp_path, model_of
):
    other = tmp_path / "other.onnx"
    other.write_bytes(
        model_of("(float[N,5] x) => (float[N,6] y) <float[5,6] w> { y = MatMul(x, w) }").proto.SerializeToString()
    )
    done = run("verify", workplace.model, other)
    assert (done.returncode, "another model" in done.stderr) == (5, True)
    proto = onnx.load(compressed / "model.onnx")
    bias = next(t for t in proto.graph.initializer if t.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(6, np.nan, np.float32), "fc.bias"))
    onnx.save(proto, tmp_path / "nan.onnx")
    done = run("verify", workplace.model, tmp_path / "nan.onnx")
    assert (done.returncode, "not finite" in done.stderr) == (5, True)


def test_verify_fails_where_the_runtime_refuses_the_file(workplace, compressed, run, tmp_path):
    proto = onnx.load(compressed / "model.onnx")
    del proto.functions[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    done = run("verify", workplace.model, tmp_path / "bare.onnx", "-q")
    assert done.returncode == 5
    assert "damaged" in done.stderr
