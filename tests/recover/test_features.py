"""Where blocks end in a graph, and what the loss of features is."""

from __future__ import annotations

import numpy as np
import torch
from recovery_runs import make_task, started

from crisp_onnx.bridge import to_torch
from crisp_onnx.data import Images
from crisp_onnx.model import Model
from crisp_onnx.recover.features import Shown, block_ends, feature_loss
from crisp_onnx.recover.fixed import Fixed
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import put_masks, saliency_of
from crisp_onnx.recover.training import Training


def test_a_block_ends_in_a_sum_of_two_branches_behind_its_activation(model: Model) -> None:
    assert block_ends(to_torch(model)) == ("total_relu",)


def test_without_sums_blocks_end_where_pictures_become_smaller(model_of) -> None:  # type: ignore[no-untyped-def]
    chain = model_of("""(float[N,3,8,8] x) => (float[N,4] y)
    <float[4,3,3,3] w0, float[4,4,3,3] w1, float[4,4,1,1] w2, float[1,4,1,1] shift> {
        a = Conv<strides=[2,2]>(x, w0)
        b = Relu(a)
        c = Add(b, shift)
        d = Conv<strides=[2,1]>(c, w1)
        e = Conv(d, w2)
        f = GlobalAveragePool(e)
        y = Flatten(f)
    }""")
    assert block_ends(to_torch(chain)) == ("c", "e")


def test_without_sums_blocks_end_where_pictures_become_larger_too(model_of) -> None:  # type: ignore[no-untyped-def]
    graph = model_of("""(float[N,3,8,8] x) => (float[N,4,8,8] y)
    <float[4,3,3,3] w0, float[4,4,2,2] w1, float[4] scales = {1.0, 1.0, 2.0, 2.0}, float[4,4,1,1] w2> {
        a = Conv<pads=[1,1,1,1]>(x, w0)
        b = MaxPool<kernel_shape=[4,4], strides=[4,4]>(a)
        c = Relu(b)
        d = ConvTranspose<strides=[2,2]>(c, w1)
        e = Relu(d)
        f = Resize<mode="linear">(e, , scales)
        y = Conv(f, w2)
    }""")
    assert block_ends(to_torch(graph)) == ("a", "c", "e")


def test_outputs_of_the_graph_are_no_features(model_of) -> None:  # type: ignore[no-untyped-def]
    graph = model_of("(float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w)\n y = Add(a, x) }")
    assert block_ends(to_torch(graph)) == ()


def test_the_loss_is_the_mean_share_that_is_missed() -> None:
    random = torch.Generator().manual_seed(0)
    student, teacher = ([torch.randn(4, n, generator=random) * 10**n for n in (3, 5)] for _ in range(2))
    expected = np.mean([float(((s - t) ** 2).mean() / (t**2).mean()) for s, t in zip(student, teacher, strict=True)])
    assert float(feature_loss(student, teacher)) == np.float32(expected)
    assert float(feature_loss(teacher, teacher)) == 0
    assert torch.isfinite(feature_loss(student, [torch.zeros_like(t) for t in teacher]))


def test_a_shown_graph_answers_as_itself_and_shows_what_is_inside(model: Model) -> None:
    module = to_torch(model)
    x = torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        answer, inner = Shown(module, ("total",))(x)
        assert torch.equal(answer, module(x))
        assert torch.equal(inner, module.run({"image": x}, ["total"])["total"])


def test_the_gradients_of_removed_weights_do_not_count(model: Model, images: Images) -> None:
    task = make_task(model)
    module, statistics = started(model, images, task)
    plan = task.planner.plan(saliency_of(module, statistics, task))
    put_masks(module, plan)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    training = Training(epochs=1, batch_size=16, weight_decay=0.0)
    Loop(module, images, task, training, Fixed(module, plan, task), features=("total_relu",)).run()
    for name, mask in module.masks.items():
        weight = dict(module.named_parameters())[name]
        assert torch.equal(weight[~mask], before[name][~mask])
        assert not torch.equal(weight[mask], before[name][mask])
