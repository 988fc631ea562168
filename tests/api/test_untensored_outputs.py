"""Outputs that are no tensors (maps of ZipMap, sequences) beside good scores: left alone, and listed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from crisp_onnx.api.acceptance import accept
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.trials import difference
from crisp_onnx.model import Model
from crisp_onnx.model.answers import as_array, open_model

NET = """(float[N,3,8,8] x) => (float[N,6] y) <float[16,3,1,1] w, float[32,16,1,1] v, float[32,6] u> {
    f = Conv(x, w)  g = Conv(f, v)  h = GlobalAveragePool(g)  i = Flatten(h)  l = Gemm(i, u)  y = Softmax(l) }"""


def with_map(proto: onnx.ModelProto, key: int) -> None:
    labels = {"classlabels_int64s": range(6)} if key == onnx.TensorProto.INT64 else {"classlabels_strings": "abcdef"}
    proto.graph.node.append(
        helper.make_node("ZipMap", ["y"], ["z"], "zip", domain="ai.onnx.ml", **{k: list(v) for k, v in labels.items()})
    )
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    value = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
    proto.graph.output.append(helper.make_value_info("z", kind))


def with_sequence(proto: onnx.ModelProto, *held: str) -> None:
    proto.graph.node.append(helper.make_node("SequenceConstruct", held, ["z"], "sequence"))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    proto.graph.output.append(helper.make_value_info("z", kind))


KINDS = {
    "map of numbers": lambda proto: with_map(proto, onnx.TensorProto.INT64),
    "map of names": lambda proto: with_map(proto, onnx.TensorProto.STRING),
    "sequence of one": lambda proto: with_sequence(proto, "y"),
    "sequence of several sizes": lambda proto: with_sequence(proto, "y", "i"),
}


@pytest.fixture(params=KINDS)
def model(request, model_of) -> Model:
    model = model_of(NET)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    KINDS[request.param](proto)
    return replace(model, proto=proto)


def test_it_is_listed_and_keeps_its_type_and_its_answers(model: Model) -> None:
    prepared = accept(prepare(model)).prepared
    assert prepared.head.output == "y"
    assert any("'z' holds a sequence or map" in note for note in prepared.outputs.notes(prepared.head))
    written = prepared.model.with_graph(prepared.model.graph())
    kinds = [one.proto.graph.output[1].type.sequence_type.elem_type.WhichOneof("value") for one in (model, written)]
    assert kinds[0] == kinds[1] is not None
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    before, after = (open_model(one).run({"x": image}) for one in (model, written))
    assert isinstance(after["z"], list)
    assert difference(after, before) < 1e-5


def test_answers_that_differ_in_a_map_or_a_sequence_are_seen() -> None:
    one, other = [{0: 0.25, 1: 0.75}], [{0: 0.5, 1: 0.5}]
    assert difference({"z": one}, {"z": one}) == 0
    assert difference({"z": one}, {"z": other}) == pytest.approx(0.5)
    assert as_array([np.zeros((1, 2)), np.zeros((1, 3))]).shape == (5,)
    assert as_array([]).shape == (0,)
