"""Recovery on a small model: masks hold to the end, the budget is met, accuracy comes back, and runs repeat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from recovery_runs import CLASSES, make_task, refit_on, run
from small_models import residual_classifier

from crisp_onnx.bridge import GraphModule, to_torch, write_back
from crisp_onnx.data import Images
from crisp_onnx.masks import Candidates, Plan, Planner, Saliency, Spent, Threshold
from crisp_onnx.model import Model, load
from crisp_onnx.recover import Training, mirror_safe, output_moments, put_masks, reestimate


def accuracy(module: GraphModule, images: Images) -> float:
    right = 0
    with torch.no_grad():
        for inputs, labels in images.batches(32):
            right += int(
                (
                    module(torch.from_numpy(inputs))[:, CLASSES].argmax(1).numpy() == np.searchsorted(CLASSES, labels)
                ).sum()
            )
    return right / len(images)


@pytest.mark.parametrize("recovery", ["ramp", "fixed"])
@pytest.mark.parametrize("saliency", ["crisp", "fisher", "magnitude", "wanda", "random"])
def test_the_exported_zeros_are_the_masks_after_momentum_and_weight_decay(
    model: Model, images: Images, saliency: str, recovery: str
) -> None:
    task = make_task(model, saliency)
    training = Training(epochs=5, batch_size=16, peak_rate=0.02)
    module, plan = run(model, images, task, training, recovery=recovery)
    written = write_back(module, model)
    constants = written.graph().tensors()
    assert len(list(plan.sparse())) == 2
    for sparse in plan.sparse():
        weight = sparse.layer.matrix(constants[sparse.layer.weight].values)
        assert not weight[~sparse.mask].any()
        assert np.count_nonzero(weight) == sparse.kept_weights
    assert abs(plan.sparsity - 0.85) < 0.03


@pytest.mark.parametrize("recovery", ["ramp", "fixed"])
def test_recovery_brings_back_what_pruning_took(model: Model, images: Images, recovery: str) -> None:
    _, plan = run(model, images, make_task(model, "random"), Training(epochs=0))
    before = to_torch(model).eval()
    put_masks(before, plan)
    training = Training(epochs=8, batch_size=16, peak_rate=0.02)
    after, _ = run(model, images, make_task(model), training, recovery=recovery, refit=refit_on(images))
    assert accuracy(to_torch(model).eval(), images) > 0.95
    assert accuracy(before, images) < 0.9
    assert accuracy(after, images) > 0.95


def test_a_refit_alone_brings_back_most_of_what_pruning_took(model: Model, images: Images) -> None:
    task, none = make_task(model, "random"), Training(epochs=0)
    masked, _ = run(model, images, task, none)
    refitted, _ = run(model, images, task, none, refit=refit_on(images))
    dense = to_torch(model).eval()
    inputs = torch.from_numpy(next(images.batches(96))[0])
    with torch.no_grad():
        missed = [(module(inputs) - dense(inputs)).square().mean() for module in (masked, refitted)]
    assert missed[1] < 0.25 * missed[0]
    assert accuracy(refitted, images) > 0.95


def test_fixed_masks_are_chosen_once_from_the_untouched_weights(model: Model, images: Images) -> None:
    _, chosen = run(model, images, make_task(model), Training(epochs=0))
    _, kept = run(model, images, make_task(model), Training(epochs=2, batch_size=16), recovery="fixed")
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(chosen.sparse(), kept.sparse(), strict=True))


def test_recovery_works_without_labels(model: Model, images: Images) -> None:
    unlabelled = replace(images, labels=None)
    module, _ = run(model, unlabelled, make_task(model), Training(epochs=8, batch_size=16, peak_rate=0.02))
    assert accuracy(module, images) > 0.9


@pytest.mark.parametrize("recovery", ["ramp", "fixed"])
def test_the_same_seed_gives_the_same_weights(model: Model, images: Images, recovery: str) -> None:
    training = Training(epochs=2, batch_size=16, peak_rate=0.02, seed=3)
    first, second = (
        run(model, images, make_task(model), training, recovery=recovery, refit=refit_on(images))[0] for _ in range(2)
    )
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_budget_in_macs_is_met_at_the_end(model: Model, images: Images) -> None:
    task = make_task(model)
    task = replace(task, planner=Threshold(task.planner.candidates, 0.25, "macs"))
    _, plan = run(model, images, task, Training(epochs=3, batch_size=16))
    assert abs(plan.kept_macs / plan.dense_macs - 0.25) < 0.03


def test_statistics_after_reestimation_are_those_of_the_masked_weights(model: Model, images: Images) -> None:
    module, _ = run(model, images, make_task(model), Training(epochs=0))
    assert reestimate(module, images, batch_size=len(images))
    moments = output_moments(module, {"stem": "stem_out", "conv2": "conv2_out"}, images, batch_size=len(images))
    np.testing.assert_allclose(module.get_statistic("stem.bn.mean").numpy(), moments["stem"][0], rtol=1e-4, atol=1e-5)
    # Behind another BatchNorm the batches' own statistics leave a trace.
    for key, found in zip(("mean", "var"), moments["conv2"], strict=True):
        statistic = module.get_statistic(f"conv2.bn.{key}").numpy()
        assert np.abs(statistic - found).max() < 0.05 * np.abs(found).max()


def test_a_model_without_batch_norm_has_nothing_to_reestimate(tmp_path, images: Images) -> None:  # type: ignore[no-untyped-def]
    plain = load(residual_classifier(tmp_path / "plain.onnx", batch_norm=False))
    assert not reestimate(to_torch(plain), images)


def test_colours_survive_a_mirror_and_left_from_right_does_not(model: Model, images: Images) -> None:
    assert mirror_safe(to_torch(model), images, make_task(model))

    class Sided(torch.nn.Module):
        """Answers by which half of the image is brighter."""

        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left = x[..., : x.shape[-1] // 2].mean((1, 2, 3))
            right = x[..., x.shape[-1] // 2 :].mean((1, 2, 3))
            zero = torch.zeros_like(left)
            return self.one * torch.stack([left, zero, right, zero, zero, zero - 9], 1)

    unlabelled = replace(images, labels=None)
    assert not mirror_safe(Sided(), unlabelled, make_task(model))  # type: ignore[arg-type]


def test_a_planner_may_change_its_mind_until_the_freeze(model: Model, images: Images) -> None:
    """On the way `conv1` stays dense; in the end `conv1` is sparse and `conv2` whole."""
    task = make_task(model)
    asked: list[float] = []

    @dataclass(frozen=True)
    class Fickle:
        candidates: Candidates
        kept: float = 0.0

        def plan(self, saliency: Saliency) -> Plan:
            asked.append(self.kept)
            assert len(saliency) == 2
            left = self.candidates.without({"conv1" if self.kept else "conv2": "the planner says so"})
            return Threshold(left, 0.2).plan(saliency)

        def loosened(self, kept: float) -> Planner:
            return replace(self, kept=kept)

        def spent(self, plan: Plan) -> Spent:
            return Threshold(self.candidates, 0.2).spent(plan)

    fickle = Fickle(task.planner.candidates)
    module, plan = run(model, images, replace(task, planner=fickle), Training(epochs=3, batch_size=16))
    assert asked == [1, 0]
    assert [sparse.layer.name for sparse in plan.sparse()] == ["conv1"]
    stored = {t.name: numpy_helper.to_array(t) for t in write_back(module.eval(), model).proto.graph.initializer}
    assert (stored["conv1.weight"] != 0).mean() == pytest.approx(0.2, abs=0.01)
    assert (stored["conv2.weight"] != 0).all()
