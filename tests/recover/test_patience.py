"""Early stop: when it ends training, with which weights, and that it is taken up with the rest of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recovery_runs import leave, make_task, run, started

from crisp_onnx.bridge import GraphModule, to_torch
from crisp_onnx.data import Images
from crisp_onnx.model import Model
from crisp_onnx.recover import Training
from crisp_onnx.recover.hooks import Hooks
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.patience import Patience, held_out_loss
from crisp_onnx.recover.ramp import Ramp, Rise


def marked(module: GraphModule, value: float) -> None:
    with torch.no_grad():
        dict(module.named_parameters())["fc.bias"].fill_(value)


def test_it_ends_after_so_many_epochs_in_vain_and_gives_the_best_weights_back(model: Model) -> None:
    module, losses = to_torch(model), [3.0, 2.0, 2.5, 2.0, 1.0]
    patience = Patience(module, 2, lambda: losses.pop(0))
    for epoch in range(1, 5):
        assert not patience.over
        marked(module, epoch)
        patience.look(epoch)
    assert patience.over
    assert patience.best_at == 2
    patience.settle()
    assert dict(module.named_parameters())["fc.bias"][0] == 2


def test_what_it_waits_for_and_has_seen_is_its_state(model: Model) -> None:
    module, losses = to_torch(model), [3.0, 4.0, 5.0]
    first = Patience(module, 2, lambda: losses.pop(0))
    marked(module, 1)
    first.look(1)
    first.look(2)
    second = Patience(module, 2, lambda: losses.pop(0))
    second.load(first.state())
    second.look(3)
    assert second.over and second.best_at == 1
    marked(module, 9)
    second.settle()
    assert dict(module.named_parameters())["fc.bias"][0] == 1
    untouched = Patience(module, 2, lambda: 0.0)
    untouched.load(untouched.state())
    assert not untouched.over


def test_training_ends_early_and_says_so(model: Model, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.5, 0.6, 0.7])
    monkeypatch.setattr("crisp_onnx.recover.loop.held_out_loss", lambda *arguments, **keywords: next(losses))
    task = make_task(model)
    module, _ = started(model, images, task)
    training = Training(epochs=9, batch_size=16, peak_rate=0.02, patience=2, judged=images)
    loop = Loop(module, images, task, training, Hooks())
    loop.run()
    loop.finish()
    assert loop.step == 4 * 6
    assert loop.notes == (
        "Training ended after 4 of 9 epochs, and the weights are those after epoch 2: held-out images were answered "
        "best then.",
    )


def test_the_loss_of_a_model_that_imitates_itself_is_that_of_the_labels_alone(model: Model, images: Images) -> None:
    task, module = make_task(model), to_torch(model)
    unlabelled = replace(images, labels=None)
    assert held_out_loss(module, to_torch(model).eval(), unlabelled, task, batch_size=20) == pytest.approx(0, abs=1e-6)
    whole = held_out_loss(module, to_torch(model).eval(), images, task, batch_size=96)
    assert held_out_loss(module, to_torch(model).eval(), images, task, batch_size=20) == pytest.approx(whole, rel=1e-5)
    assert module.training


def test_while_masks_still_change_nothing_is_compared(model: Model, images: Images) -> None:
    task = make_task(model)
    module, statistics = started(model, images, task)
    training = Training(epochs=5, batch_size=16, peak_rate=0.02, patience=1, judged=images)
    ramp = Ramp(module, statistics, task, Rise(training.steps(len(images))), leave)
    loop = Loop(module, images, task, training, ramp)
    loop.run(until=12)
    assert loop.patience is not None and loop.patience.seen == 0
    loop.run(until=18)
    assert loop.patience.seen == 3


def test_a_run_with_patience_still_holds_its_masks(model: Model, images: Images) -> None:
    training = Training(epochs=4, batch_size=16, peak_rate=0.02, patience=1, judged=images)
    module, plan = run(model, images, make_task(model), training, recovery="fixed")
    assert len(list(plan.sparse())) == len(module.masks) == 2
