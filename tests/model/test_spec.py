"""`Model`: graphs go out and come back with names, dimensions, functions and metadata as they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model import TensorSpec, shapes, tensor_shapes, with_value_info
from crisp_onnx.model.shapes import with_declared_outputs

GRAPH = (
    "(float[batch,3,height,width] x) => (float[batch,4,height,width] y) <float[4,3,3,3] w>"
    "{ [c] t = Conv<pads=[1,1,1,1]>(x, w) y = Relu(t) }"
)
F = '<domain: "local", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }'


def dims(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_names_of_open_dimensions_survive_the_round_trip(model_of):
    model = model_of(GRAPH)
    back = with_value_info(model.with_graph(model.graph()))
    assert dims(back.proto.graph.input[0]) == ["batch", 3, "height", "width"]
    assert dims(back.proto.graph.output[0]) == ["batch", 4, "height", "width"]


def test_outputs_are_as_open_as_the_source_declares_them(model_of):
    source = model_of("(float[batch,3] x) => (float[batch,places] y) <float[3,4] w> { y = MatMul(x, w) }")
    told = with_value_info(source)
    assert dims(told.proto.graph.output[0]) == ["batch", 4]
    assert dims(with_declared_outputs(told, source).proto.graph.output[0]) == ["batch", "places"]
    other = model_of("(float[batch,3] x) => (float[batch,5] y) <float[3,5] w> { y = MatMul(x, w) }")
    assert dims(with_declared_outputs(other, other).proto.graph.output[0]) == ["batch", 5]


def test_metadata_producer_and_version_survive_the_round_trip(model_of):
    model = model_of(GRAPH).with_metadata({"author": "someone", "license": "MIT"})
    model.proto.producer_name, model.proto.producer_version = "trainer", "1.2"
    model.proto.doc_string, model.proto.domain, model.proto.model_version = "what it is", "org.example", 7
    back = model.with_graph(model.graph())
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version"):
        assert getattr(back.proto, field) == getattr(model.proto, field)
    assert back.metadata == {"author": "someone", "license": "MIT"}
    assert back.with_metadata({"author": "other"}).metadata == {"author": "other", "license": "MIT"}
    assert model.metadata["author"] == "someone"


def test_local_functions_survive_the_round_trip(model_of, answers):
    model = model_of("(float[N,4] x) => (float[N,4] y) { t = local.Twice(x) y = Relu(t) }", functions=F)
    back = model.with_graph(model.graph())
    onnx.checker.check_model(back.proto)
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(answers(back, x)[0], 2 * x)


def test_without_functions_their_domain_is_not_imported(model_of):
    model = model_of(GRAPH)
    assert model.with_functions([], "local", 1).proto.opset_import == model.proto.opset_import


def test_changing_a_graph_leaves_the_model_alone(model_of):
    model = model_of(GRAPH)
    before = model.proto.SerializeToString()
    graph = model.graph()
    graph.nodes[0].inputs[1].values = np.zeros((4, 3, 3, 3), np.float32)
    graph.nodes[0].attrs["pads"] = [0, 0, 0, 0]
    assert model.proto.SerializeToString() == before


def test_every_node_gets_a_name_of_its_own_and_given_ones_stay(model_of):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) { [same] a = Relu(x) [same] b = Relu(a) c = Relu(b) [Relu_2] y = Relu(c) }"
    )
    names = [node.name for node in model.graph().nodes]
    assert names[0] == "same"
    assert names[3] == "Relu_2"
    assert len(set(names)) == 4
    assert [node.name for node in model.graph().nodes] == names


def test_weights_that_were_graph_inputs_are_initializers_alone(model_of, answers):
    model = model_of("(float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }")
    model.proto.ir_version = 3
    model.proto.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 4]))
    assert model.input.name == "x"
    back = model.with_graph(model.graph())
    assert [i.name for i in back.proto.graph.input] == ["x"]
    assert [t.name for t in back.proto.graph.initializer] == ["w"]
    assert back.proto.ir_version >= 8


def test_fixed_and_open_sides_are_filled_in(model_of):
    spec = model_of(GRAPH).input
    assert spec.fixed(2, (32, 24)) == (2, 3, 32, 24)
    assert model_of(GRAPH.replace("batch,3", "5,3").replace("batch,4", "5,4")).input.fixed(2, (8, 8)) == (5, 3, 8, 8)


def test_shapes_of_one_image_are_found_for_every_tensor(model_of):
    shapes = tensor_shapes(model_of(GRAPH), size=(16, 16))
    assert shapes == {"x": (1, 3, 16, 16), "w": (4, 3, 3, 3), "t": (1, 4, 16, 16), "y": (1, 4, 16, 16)}


def test_shapes_that_depend_on_values_are_found_by_running(model_of):
    model = model_of(
        "(float[N,3,4,4] x) => (float[P,Q] y) <int64[1] zero = {0}>"
        "{ s = Shape(x) c = ReduceMax<keepdims=0>(s) z = NonZero(x) f = Cast<to=1>(z) y = Relu(f) }"
    )
    shapes = tensor_shapes(model)
    assert shapes["y"] == (4, 0)


def test_an_element_type_that_cannot_be_represented_is_one_sentence(model_of):
    model = model_of(GRAPH)
    model.proto.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(CrispError, match=r"test.onnx holds what cannot be read as a graph"):
        model.graph()


@pytest.mark.parametrize("shape", [(2**31 - 1, 3, 12, 12), (None, 3, 2**40, 2**40), (2**63 - 1, 2**63 - 1)])
def test_an_input_of_more_values_than_memory_is_refused_before_it_is_made(shape):
    with pytest.raises(CrispError, match=r"Input 'x' takes .* values, more than 256 Mi"):
        TensorSpec("x", shape, np.dtype(np.float32)).fixed(1)


def test_a_side_below_nothing_is_no_shape(model_of, monkeypatch):
    model = model_of("(float[N,3,8,8] x) => (float[N,4,p,q] y) <float[4,3,3,3] w> { y = Conv(x, w) }")
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model.proto)
    inferred.graph.value_info.append(helper.make_tensor_value_info("t", 1, [1, 4, -5, 2]))
    monkeypatch.setattr(shapes, "_infer", lambda proto, carried=True: inferred)
    assert "t" not in tensor_shapes(model, size=(8, 8))
