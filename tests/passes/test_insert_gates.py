"""Gates of ones change nothing, and a gate of zero is the removal of its channel, or its mean in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import networks

from crisp_onnx.groups import ChannelGroup, Removal, channel_groups
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.passes import FoldGates, InsertGates, MaskChannels, run_pass
from crisp_onnx.passes.insert_gates import apart, edges

Answers = Callable[..., list[np.ndarray]]


def free_groups(model: Model, shapes: dict[str, tuple[int, ...]]) -> list[ChannelGroup]:
    graph = model.graph()
    groups = [g for g in channel_groups(graph, weight_layers(model, shapes), shapes) if g.removable and g.width > 1]
    return [g for g in apart(graph, groups, shapes) if edges(graph, (g,), shapes)]


def gated_answers(model: Model, gates: InsertGates, values: np.ndarray, image: np.ndarray) -> np.ndarray:
    graph = model.graph()
    run_pass(gates, graph)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.with_graph(graph).proto.SerializeToString(), options)
    name = next(one.name for one in session.get_inputs() if one.name != gates.gates)
    return session.run(None, {name: image, gates.gates: values.astype(np.float32)})[0]


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() <= 1e-5 * max(1e-3, np.abs(one).max()))


@given(networks())
@settings(max_examples=20)
def test_a_gate_of_zero_is_the_removal_of_its_channel(answers: Answers, model: Model) -> None:
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    if not groups:
        return
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    gates = InsertGates(groups, shapes)
    values = np.ones((1, sum(group.width for group in groups) + 1))
    (dense,) = answers(model, image)
    assert close(dense, gated_answers(model, gates, values, image))
    values[0, groups[0].width - 1] = 0
    graph = model.graph()
    run_pass(MaskChannels([Removal(groups[0], (groups[0].width - 1,))], shapes), graph)
    (masked,) = answers(model.with_graph(graph), image)
    assert close(masked, gated_answers(model, gates, values, image))


def test_with_means_a_shut_gate_leaves_the_mean(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[1,2] x) => (float[1,2] y) <float[2,3] a, float[3,2] b> { h = MatMul(x, a) y = MatMul(h, b) }"
    )
    shapes = tensor_shapes(model)
    (group,) = free_groups(model, shapes)
    mean = np.array([1.0, 2.0, 3.0])
    gates = InsertGates([group], shapes, {("h", 1): mean})
    tensors = model.graph().tensors()
    image = np.array([[0.5, -1]], np.float32)
    hidden = image @ tensors["a"].values
    hidden[0, 1] = 2.0
    found = gated_answers(model, gates, np.array([[1, 0, 1, 1]]), image)
    assert found == pytest.approx(hidden @ tensors["b"].values, rel=1e-5)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=30)
def test_gates_folded_into_weights_answer_as_gates_in_front_of_them(answers: Answers, model: Model, seed: int) -> None:
    shapes = tensor_shapes(model)
    groups = free_groups(model, shapes)
    if not groups:
        return
    opened = np.random.default_rng(seed).random(sum(group.width for group in groups))
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    gated = gated_answers(model, InsertGates(groups, shapes), np.append(opened, 1)[None], image)
    graph = model.graph()
    assert run_pass(FoldGates(groups, shapes, opened), graph).changed
    (folded,) = answers(model.with_graph(graph), image)
    assert close(gated, folded)


@pytest.mark.parametrize("images", ["N", "1", "3"])
def test_gates_stand_in_files_of_any_batch(model_of: Callable[..., Model], answers: Answers, images: str) -> None:
    model = model_of(
        f"(float[{images},2,3,3] x) => (float[{images},2] y) <float[4,2,1,1] a, float[2,4] b> "
        "{ h = Conv(x, a) p = GlobalAveragePool(h) f = Flatten(p) y = Gemm<transB=1>(f, b) }"
    )
    shapes = tensor_shapes(model)
    (group,) = free_groups(model, shapes)
    image = np.random.default_rng(0).standard_normal((1 if images == "1" else 3, 2, 3, 3)).astype(np.float32)
    weights = {name: tensor.values for name, tensor in model.graph().tensors().items() if name in "ab"}
    hidden = np.einsum("nchw,kc->nk", image, weights["a"][:, :, 0, 0]) / 9 * [1, 0, 1, 0.5]
    found = gated_answers(model, InsertGates([group], shapes), np.array([[1, 0, 1, 0.5, 1]]), image)
    assert found == pytest.approx(hidden @ weights["b"].T, rel=1e-4, abs=1e-6)
