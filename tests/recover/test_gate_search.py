"""The search for widths by gates: it comes to its budget, can be taken up, and needs no labels."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from recovery_runs import make_task

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.channels import Extent, Gates
from crisp_onnx.data import Images
from crisp_onnx.groups import channel_groups
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.passes.insert_gates import gated_columns
from crisp_onnx.recover import NoKeeper, State, Training, search_gates
from crisp_onnx.recover.gates import Opening, Search
from crisp_onnx.recover.loop import Loop

TRAINING = Training(epochs=4, batch_size=16, peak_rate=0.02, seed=5)
SHARE = 0.5


def prepared(model: Model) -> tuple[GraphModule, Gates, Extent]:
    shapes = tensor_shapes(model)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    free = [number for number, group in enumerate(groups) if group.removable and group.producers]
    chosen = [groups[number] for number in free]
    owners = np.repeat(free, [group.width for group in chosen])
    first = np.random.default_rng(0).uniform(0.2, 1.5, len(owners))
    gates = Gates(owners, len(groups), gated_columns(model.graph(), chosen, shapes), first, frozenset(free))
    return to_torch(model), gates, Extent(model.graph(), groups, shapes)


@pytest.mark.parametrize("labelled", [True, False])
def test_gates_come_to_the_budget_as_they_are_and_as_open_or_shut(model: Model, images: Images, labelled: bool) -> None:
    """Without labels the teacher's answers say what is worth keeping."""
    module, gates, extent = prepared(model)
    seen = images if labelled else replace(images, labels=None)
    before = {name: value.clone() for name, value in module.named_parameters()}
    opened, _ = search_gates(
        module, copy.deepcopy(module), seen, make_task(model), TRAINING, gates, extent.macs, SHARE, NoKeeper()
    )
    whole = extent.macs.at(np.zeros(gates.groups))
    kept = extent.macs.at(np.bincount(gates.owners, opened < 0.5, gates.groups))
    assert extent.macs.at(gates.removed(torch.from_numpy(opened))) / whole == pytest.approx(SHARE, abs=0.05)
    assert kept / whole == pytest.approx(SHARE, abs=0.1)
    assert any(not torch.equal(value, before[name]) for name, value in module.named_parameters())
    assert not module._lenses


def test_the_search_is_taken_up_where_it_was(model: Model, images: Images) -> None:
    def fresh() -> tuple[Loop, Opening]:
        module, gates, extent = prepared(model)
        teacher = copy.deepcopy(module)
        hooks = Opening(module, gates, extent.macs, SHARE, TRAINING.steps(len(images)))
        return Loop(module, images, make_task(model), TRAINING, hooks, teacher=teacher), hooks

    (whole, hooks), (first, _), (second, others) = fresh(), fresh(), fresh()
    whole.run()
    first.run(until=7)
    second.load(first.state())
    second.run()
    assert torch.equal(hooks.scores, others.scores)
    assert all(torch.equal(a, b) for a, b in zip(whole.module.parameters(), second.module.parameters(), strict=True))
    assert isinstance(hooks.state(), State)


def test_the_schedule_comes_to_the_budget_before_gates_become_steps() -> None:
    search = Search(fallen=0.5, steeper=0.8, steepest=3)
    assert [search.aim(done, 0.8, 0.2) for done in (0, 0.25, 0.5, 1)] == [0.8, pytest.approx(0.5), 0.2, 0.2]
    assert [search.steepness(done) for done in (0, 0.8, 1)] == [5, 5, 15]


def test_batch_norm_cannot_undo_what_gates_take_from_all_channels_alike(
    model: Model, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the batch's own statistics it would scale it up again, and whole blocks would shut unnoticed."""
    module, gates, extent = prepared(model)
    before = {name: module.get_statistic(name).clone() for name in module.statistics}
    seen: list[bool] = []
    after_step = Opening.after_step

    def watched(self: Opening, step: int) -> None:
        seen.append(all(torch.equal(module.get_statistic(name), value) for name, value in before.items()))
        after_step(self, step)

    monkeypatch.setattr(Opening, "after_step", watched)
    task, teacher = make_task(model), copy.deepcopy(module)
    search_gates(module, teacher, images, task, TRAINING, gates, extent.macs, SHARE, NoKeeper())
    assert before and len(seen) > 4 and all(seen)
    assert not any(torch.equal(module.get_statistic(name), value) for name, value in before.items())
