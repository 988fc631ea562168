"""Sharing the budget by trials: what held-out images lose under a plan, layer by layer or plan after plan."""

from __future__ import annotations

import pytest
import torch
from recovery_runs import make_task, started

from crisp_onnx.data import Images
from crisp_onnx.masks import Saliency
from crisp_onnx.model import Model
from crisp_onnx.recover import Trial, saliency_of, searched, utilisation


@pytest.fixture(scope="module")
def ground(model: Model, images: Images) -> tuple[Trial, Saliency]:
    task = make_task(model, kept=0.2)
    module, statistics = started(model, images, task)
    trial = Trial(module, images, images, task, batch_size=16, most=48, seed=0)
    return trial, saliency_of(module, statistics, task)


def test_a_trial_asks_for_a_plan_and_forgets_it(model: Model, images: Images) -> None:
    task = make_task(model, kept=0.2)
    module, statistics = started(model, images, task)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    saliency = saliency_of(module, statistics, task)
    trial = Trial(module, images, images, task, batch_size=16, most=48, seed=0)
    whole = [item.keep(len(item.columns.cost)) for item in task.planner.candidates.scored(saliency)]
    light, heavy = task.planner.candidates.plan(whole), task.planner.plan(saliency)
    first = trial.loss(light)
    assert trial.loss(heavy) > first
    assert trial.loss(light) == first
    assert not module.masks
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_what_a_layer_counts_for_does_not_depend_on_the_unit_of_its_saliency(ground: tuple[Trial, Saliency]) -> None:
    trial, saliency = ground
    first, *others = saliency
    plain = utilisation(trial, saliency)
    scaled = utilisation(trial, {name: score * (1000 if name == first else 1) for name, score in saliency.items()})
    assert len(others) >= 1
    for name in others:
        assert scaled[first] / scaled[name] == pytest.approx(plain[first] / plain[name] / 1000, rel=1e-4)


def test_a_search_ends_with_the_best_plan_that_it_saw(ground: tuple[Trial, Saliency]) -> None:
    trial, saliency = ground
    planner = trial.task.planner

    def loss(factors: dict[str, float]) -> float:
        return trial.loss(planner.plan({name: score * factors[name] for name, score in saliency.items()}))

    assert set(searched(trial, saliency, seed=0, trials=1).values()) == {1.0}
    plain = loss(dict.fromkeys(saliency, 1.0))
    found = searched(trial, saliency, seed=0, trials=10)
    assert loss(found) <= plain
    assert searched(trial, saliency, seed=0, trials=10) == found


def test_factors_move_blocks_from_one_layer_to_the_others(model: Model, images: Images) -> None:
    task = make_task(model, kept=0.2)
    module, statistics = started(model, images, task)
    first = task.weights[0]
    kept = []
    for factor in (1e-6, 1.0, 1e6):
        weighed = task.weighed({first: factor})
        plan = weighed.planner.plan(saliency_of(module, statistics, weighed))
        kept.append(next(item.kept.shape[1] for item in plan.sparse() if item.layer.weight == first))
    assert kept == sorted(kept)
    assert kept[0] < kept[2]
