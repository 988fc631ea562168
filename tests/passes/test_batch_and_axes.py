"""ExplicitAxes and FreeBatch: what a graph says of one batch, said for every batch."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx.passes.explicit_axes import ExplicitAxes
from crisp_onnx.passes.free_batch import FreeBatch


def seeded(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("shape", "axes"), [("N,5,1,1", [2, 3]), ("2,1,5,1", [1, 3]), ("1,5,1", [0, 2]), ("N,5", [])])
def test_a_squeeze_gets_the_axes_that_it_drops(model_of, rewrite, shape, axes):
    rank = len(shape.split(",")) - len(axes)
    out = ",".join("PQRS"[:rank])
    model = model_of(f"(float[{shape}] x) => (float[{out}] y) {{ t = Relu(x) y = Squeeze(t) }}")
    sides = [3 if side == "N" else int(side) for side in shape.split(",")]
    after = rewrite(model, [ExplicitAxes()], x=seeded(*sides))
    assert after.graph.nodes[1].inputs[1].values.tolist() == axes


def test_a_squeeze_of_an_unknown_shape_or_with_axes_stays(model_of, rewrite):
    model = model_of(
        "(float[N,1,H] x) => (float[P] y, float[Q,R] z) <int64[1] a = {1}>"
        "{ t = Relu(x) y = Squeeze(t) z = Squeeze(t, a) }"
    )
    after = rewrite(model, [ExplicitAxes()], x=seeded(3, 1, 4))
    assert after.reasons == ["it drops axes of an unknown shape"]
    assert [len(node.inputs) for node in after.graph.nodes] == [1, 1, 2]


@pytest.mark.parametrize(("batch", "target"), [(1, [1, -1]), (4, [4, -1]), (4, [4, 3, 2]), (2, [2, 6])])
def test_a_reshape_to_the_batch_of_its_input_keeps_whatever_batch_there_is(model_of, rewrite, answers, batch, target):
    out = ",".join("PQR"[: len(target)])
    model = model_of(
        f"(float[{batch},6] x) => (float[{out}] y) <int64[{len(target)}] s> {{ t = Relu(x) y = Reshape(t, s) }}",
        s=np.array(target),
    )
    after = rewrite(model, [FreeBatch()], x=seeded(batch, 6))
    assert after.graph.nodes[1].inputs[1].values.tolist() == [0, *target[1:]]
    opened = after.model.with_graph(after.graph)
    opened.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    assert answers(opened, seeded(7, 6))[0].shape[0] == 7


@pytest.mark.parametrize("target", ["2,-1", "-1,3", "3,4"])
def test_a_reshape_that_moves_the_batch_stays(model_of, target):
    values = np.array([int(length) for length in target.split(",")])
    model = model_of("(float[4,3] x) => (float[P,Q] y) <int64[2] s> { t = Relu(x) y = Reshape(t, s) }", s=values)
    graph = model.graph()
    assert FreeBatch().run(graph).changed == 0


def test_two_reshapes_that_share_a_target_are_told_apart(model_of, rewrite):
    model = model_of(
        "(float[4,6] x) => (float[4,6] y, float[4,6] z) <int64[2] s = {4,6}, int64[1] p = {24}>"
        "{ t = Relu(x) y = Reshape(t, s) f = Reshape(t, p) z = Reshape(f, s) }"
    )
    after = rewrite(model, [FreeBatch()], x=seeded(4, 6))
    reshapes = [node for node in after.graph.nodes if node.op == "Reshape"]
    targets = {node.outputs[0].name: node.inputs[1].values.tolist() for node in reshapes}
    assert targets == {"y": [0, 6], "f": [24], "z": [4, 6]}
