"""Every mode of recovery does what its formula says, holds its masks and budget, and can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from recovery_runs import CLASSES, leave, make_task, refit_on, run, started
from torch import Tensor

from crisp_onnx.bridge import GraphModule, write_back
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan, Threshold
from crisp_onnx.model import Model
from crisp_onnx.reconstruct import Refitted
from crisp_onnx.recover import MODES, NoKeeper, State, Task, Training, restore, trained_tensors
from crisp_onnx.recover.cram import LOOSE, RHO, Cram
from crisp_onnx.recover.grow_and_prune import Cycle, GrowAndPrune
from crisp_onnx.recover.masking import masks_of, put_masks, saliency_of
from crisp_onnx.recover.nested import Nested
from crisp_onnx.recover.settling import Choices, Settling
from crisp_onnx.recover.soft_shrink import FACTOR, SoftShrink
from crisp_onnx.recover.sr_ste import DECAY, SrSte
from crisp_onnx.recover.straight_through import StraightThrough

TRAINING = Training(epochs=4, batch_size=16, peak_rate=0.02, seed=1)
"""24 steps over 96 images; modes that settle choose masks at steps 0 and 9."""
WEIGHT = "conv1.weight"


def settling(model: Model, images: Images, kind: type[Settling]) -> Settling:
    task = make_task(model)
    module, statistics = started(model, images, task)
    hooks = kind(module, statistics, task, Choices(100), leave)
    hooks.before_step(0)
    return hooks


def weight_of(module: GraphModule, name: str = WEIGHT) -> torch.nn.Parameter:
    return dict(module.named_parameters())[name]


def never() -> None:
    raise AssertionError("one pass is enough")


def backward(module: GraphModule, images: Images) -> Tensor:
    module.zero_grad()
    module(torch.from_numpy(next(images.batches(32))[0])).square().sum().backward()
    gradient = weight_of(module).grad
    assert gradient is not None
    return gradient.clone()


def test_masks_are_chosen_every_so_often_and_for_the_last_time_at_a_share() -> None:
    choices = Choices(100, until=0.43, every=20)
    assert [step for step in range(100) if choices.at(step)] == [0, 20, 40, 43]
    assert [step for step in range(9) if Choices(9, until=0.0).at(step)] == [0]


def test_straight_through_gradients_are_those_of_the_masked_weight(model: Model, images: Images) -> None:
    hooks = settling(model, images, StraightThrough)
    found, mask = backward(hooks.module, images), hooks.module.masks[WEIGHT]
    assert not mask.all() and mask.any()
    masked = settling(model, images, StraightThrough).module
    masked.clear_masks()
    with torch.no_grad():
        for name, each in hooks.module.masks.items():
            weight_of(masked, name).mul_(each)
    torch.testing.assert_close(found, backward(masked, images))
    assert found[~mask].abs().max() > 0
    hooks.after_backward(1, never)
    assert torch.equal(weight_of(hooks.module).grad, found)


def test_sr_ste_adds_a_pull_to_zero_where_the_mask_is_not(model: Model, images: Images) -> None:
    hooks = settling(model, images, SrSte)
    found, mask = backward(hooks.module, images), hooks.module.masks[WEIGHT]
    hooks.after_backward(1, never)
    expected = found + DECAY * (~mask) * weight_of(hooks.module).detach()
    torch.testing.assert_close(weight_of(hooks.module).grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [StraightThrough, SrSte, SoftShrink, Cram])
def test_after_the_last_choice_removed_weights_get_no_gradients(
    model: Model, images: Images, kind: type[Settling]
) -> None:
    hooks = settling(model, images, kind)
    hooks.before_step(hooks.choices.last)
    found, mask = backward(hooks.module, images), hooks.module.masks[WEIGHT]
    assert not mask.all()
    hooks.after_backward(hooks.choices.last, never)
    assert torch.equal(weight_of(hooks.module).grad, found * mask)
    before = weight_of(hooks.module).detach().clone()
    hooks.after_step(hooks.choices.last)
    assert torch.equal(weight_of(hooks.module), before)


@pytest.mark.parametrize("kind", [StraightThrough, SrSte, SoftShrink, Cram])
def test_weights_are_re_fitted_once_to_a_network_that_still_answers(
    model: Model, images: Images, kind: type[Settling]
) -> None:
    """Where training goes through masks, the network without them is worth something only before the first step."""
    task = make_task(model)
    module, statistics = started(model, images, task)
    called: list[int] = []

    def refit(module: GraphModule, plan: Plan) -> Refitted:
        called.append(len(called))
        return leave(module, plan)

    hooks = kind(module, statistics, task, Choices(100), refit)
    hooks.before_step(0)
    assert len(called) == (1 if hooks.refits_first else 0)
    hooks.before_step(20)
    hooks.before_step(hooks.choices.last)
    assert len(called) == 1
    assert hooks.refits_first == isinstance(hooks, StraightThrough)


def test_what_is_to_go_fades_by_a_share_a_step(model: Model, images: Images) -> None:
    hooks = settling(model, images, SoftShrink)
    before, mask = weight_of(hooks.module).detach().clone(), masks_of(hooks.module, hooks.plan)[WEIGHT]
    assert hooks.module.masks[WEIGHT].all()
    for step in range(3):
        hooks.after_step(step)
    expected = torch.where(mask, before, before * FACTOR**3)
    torch.testing.assert_close(weight_of(hooks.module).detach(), expected)


def test_a_cram_step_adds_the_gradient_at_the_compressed_point_under_its_mask(model: Model, images: Images) -> None:
    """On L = |w - t|^2 / 2, whose gradient at any point is w - t."""
    hooks = settling(model, images, Cram)
    assert len(hooks.levels) == len(LOOSE)  # type: ignore[attr-defined]
    parameters = dict(hooks.module.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    target = {name: torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) for name, p in parameters.items()}

    def again() -> None:
        for name, p in parameters.items():
            p.grad = p.detach() - target[name]

    again()
    hooks.after_backward(3, again)
    masks = hooks.levels[np.random.default_rng(3).integers(len(LOOSE))]  # type: ignore[attr-defined]
    for name, p in parameters.items():
        mask = masks.get(name, torch.ones_like(p, dtype=torch.bool))
        gradient = before[name] - target[name]
        compressed = mask * (before[name] + RHO * gradient)
        torch.testing.assert_close(p.grad, mask * (compressed - target[name]) + gradient)
        assert torch.equal(p, before[name])


def test_levels_of_compression_hold_less_and_less(model: Model, images: Images) -> None:
    hooks = settling(model, images, Cram)
    kept = [int(masks[WEIGHT].sum()) for masks in hooks.levels]  # type: ignore[attr-defined]
    assert kept[0] > kept[1] > kept[2] == int(masks_of(hooks.module, hooks.plan)[WEIGHT].sum())


def test_parts_grow_one_after_the_other_and_are_pruned_when_the_next_grows() -> None:
    cycle = Cycle(83, parts=4)
    assert cycle.length == 10
    assert [(step, cycle.grows(step)) for step in range(83) if cycle.grows(step) is not None] == [
        (0, 0), (10, 1), (20, 2), (30, 3),
    ]  # fmt: skip
    assert [(step, cycle.pruned(step)) for step in range(83) if cycle.pruned(step) is not None] == [
        (10, 0), (20, 1), (30, 2), (40, 3),
    ]  # fmt: skip
    assert all(Cycle(7).grows(step) is None and Cycle(7).pruned(step) is None for step in range(7))


def test_a_part_grows_from_zeros_and_is_pruned_to_as_many_blocks(model: Model, images: Images) -> None:
    task = make_task(model)
    module, statistics = started(model, images, task)
    plan = task.planner.plan(saliency_of(module, statistics, task))
    put_masks(module, plan)
    hooks = GrowAndPrune(module, statistics, task, plan, Cycle(40, parts=2))
    assert [hooks.part(number) for number in (0, 1)] == [{WEIGHT}, {"conv2.weight"}]
    before, mask = weight_of(module).detach().clone(), module.masks[WEIGHT].clone()
    other = module.masks["conv2.weight"].clone()
    hooks.before_step(0)
    assert torch.equal(weight_of(module), before * mask)
    assert module.masks[WEIGHT].all() and torch.equal(module.masks["conv2.weight"], other)
    with torch.no_grad():  # what has grown is worth more than what was kept
        weight_of(module)[~mask] = 1.0
        weight_of(module)[mask] = 0.01
    hooks.before_step(10)
    again = module.masks[WEIGHT]
    assert not (again & mask).any() or int((again & mask).sum()) < int(mask.sum()) / 2
    assert [s.kept.shape for s in hooks.plan.sparse()] == [s.kept.shape for s in plan.sparse()]
    assert module.masks["conv2.weight"].all()


def levels_of(task: Task) -> Task:
    planners = tuple(Threshold(task.planner.candidates, kept) for kept in (0.4, 0.25, 0.15))
    return replace(task, planner=planners[-1], levels=planners)


def test_nested_plans_hold_one_another_and_each_step_trains_one(model: Model, images: Images) -> None:
    task = levels_of(make_task(model))
    module, statistics = started(model, images, task)
    plans = [planner.plan(saliency_of(module, statistics, task)) for planner in task.levels]
    hooks = Nested(module, plans, task, seed=3)
    for name in task.weights:
        most, middle, least = (masks[name] for masks in hooks.masks)
        assert torch.equal(most | middle, most) and torch.equal(middle | least, middle)
        assert int(most.sum()) > int(least.sum())
    drawn = [hooks.drawn(step) for step in range(60)]
    assert set(drawn) == {0, 1, 2}
    for step in range(5):
        hooks.before_step(step)
        assert all(torch.equal(module.masks[name], hooks.masks[drawn[step]][name]) for name in task.weights)
    found = backward(module, images)
    hooks.after_backward(4, never)
    assert torch.equal(weight_of(module).grad, found * module.masks[WEIGHT])


def accuracy(module: GraphModule, images: Images) -> float:
    inputs, labels = next(images.batches(len(images)))
    with torch.no_grad():
        answers = module(torch.from_numpy(inputs))[:, CLASSES].argmax(1).numpy()
    return float((answers == np.searchsorted(CLASSES, labels)).mean())


class Memory:
    """Keeps states in memory; the run ends at the put of that number."""

    due = True

    def __init__(self, dies: int) -> None:
        self.states: dict[str, State] = {}
        self.left = dies

    def get(self, part: str) -> State | None:
        return self.states.get(part)

    def put(self, part: str, state: State) -> None:
        self.states[part] = state
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


@pytest.mark.parametrize(
    ("recovery", "dies"),
    [
        ("straight-through", 9),
        pytest.param("sr-ste", 17, marks=pytest.mark.slow),
        ("soft-shrink", 5),
        ("grow-and-prune", 12),
        ("cram", 7),
    ],
)
def test_a_mode_holds_its_masks_keeps_what_was_right_and_is_taken_up(
    model: Model, images: Images, recovery: str, dies: int
) -> None:
    task, refit = make_task(model), refit_on(images)
    module, plan = run(model, images, task, TRAINING, recovery=recovery, refit=refit)
    constants = write_back(module, model).graph().tensors()
    for sparse in plan.sparse():
        weight = sparse.layer.matrix(constants[sparse.layer.weight].values)
        assert not weight[~sparse.mask].any() and np.count_nonzero(weight) == sparse.kept_weights
    assert abs(plan.sparsity - 0.85) < 0.03
    assert accuracy(module, images) > 0.95
    memory = Memory(dies)
    with pytest.raises(InterruptedError):
        run(model, images, task, TRAINING, recovery=recovery, refit=refit, keeper=memory)
    again, _ = run(model, images, task, TRAINING, recovery=recovery, refit=refit, keeper=memory)
    for (name, one), other in zip(module.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_one_nested_training_serves_every_budget(model: Model, images: Images) -> None:
    task = levels_of(make_task(model))
    module, statistics = started(model, images, task)
    recover: Callable[..., object] = MODES["nested"].recover
    found = recover(module, images, statistics, task, TRAINING, refit_on(images), NoKeeper())
    reached = [level.plan.sparsity for level in found.levels]  # type: ignore[attr-defined]
    assert reached == pytest.approx([0.6, 0.75, 0.85], abs=0.03)
    for level in found.levels:  # type: ignore[attr-defined]
        put_masks(module, level.plan)
        restore(trained_tensors(module), level.trained)
        assert accuracy(module, images) > 0.95
