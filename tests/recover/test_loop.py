"""The loop's state: a run that is stopped and taken up again ends with the very weights of the undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_runs import ANSWERS, leave, make_task, started
from torch import Tensor

from crisp_onnx.bridge import to_torch
from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model
from crisp_onnx.recover import Training
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import plan_from, plan_state
from crisp_onnx.recover.ramp import Ramp, Rise
from crisp_onnx.recover.state import State
from crisp_onnx.task import Classification

ModelOf = Callable[..., Model]
TRAINING = Training(epochs=3, batch_size=16, peak_rate=0.02, flip=True, seed=5)
"""18 steps over 96 images: masks are chosen at steps 0 and 7."""


@pytest.fixture(scope="module")
def whole(model: Model, images: Images) -> dict[str, Tensor]:
    loop, ramp = fresh(model, images)
    loop.run()
    loop.finish()
    return trained(loop) | masks(ramp.plan)


def fresh(model: Model, images: Images, *, saliency: str = "crisp", training: Training = TRAINING) -> tuple[Loop, Ramp]:
    task = make_task(model, saliency)
    module, statistics = started(model, images, task)
    ramp = Ramp(module, statistics, task, Rise(training.steps(len(images))), leave)
    return Loop(module, images, task, training, ramp), ramp


def trained(loop: Loop) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in loop.module.state_dict().items()}


def masks(plan: Plan) -> dict[str, Tensor]:
    return {f"plan of {name}": torch.from_numpy(mask) for name, mask in plan.masks().items()}


def through_a_file(state: State) -> State:
    """Plain bytes with a type and a shape, and JSON: all that safetensors and a text file hold."""
    tensors = {}
    for name, tensor in state.tensors.items():
        assert tensor.device.type == "cpu" and tensor.is_contiguous()
        plain = tensor.numpy()
        tensors[name] = torch.from_numpy(np.frombuffer(plain.tobytes(), plain.dtype).reshape(plain.shape).copy())
    return State(tensors, json.loads(json.dumps(dict(state.values), allow_nan=False)))


@pytest.mark.parametrize("step", [0, 1, 5, 6, 7, 8, 13, 17, 18])
def test_a_run_taken_up_after_any_step_ends_with_the_same_weights(
    model: Model, images: Images, whole: dict[str, Tensor], step: int
) -> None:
    first, _ = fresh(model, images)
    first.run(until=step)
    state = through_a_file(first.state())
    second, ramp = fresh(model, images)
    torch.manual_seed(99)  # whatever another process did
    second.load(state)
    second.run()
    second.finish()
    found = trained(second) | masks(ramp.plan)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


@pytest.mark.parametrize("saliency", ["fisher", "wanda", "random", "magnitude"])
def test_every_criterion_is_taken_up_with_its_statistics(model: Model, images: Images, saliency: str) -> None:
    whole, _ = fresh(model, images, saliency=saliency)
    whole.run()
    first, _ = fresh(model, images, saliency=saliency)
    first.run(until=4)
    state = through_a_file(first.state())
    second, ramp = fresh(model, images, saliency=saliency)
    for tensor in ramp.running.values():
        tensor.zero_()  # nothing of the first pass over the images is needed again
    second.load(state)
    second.run()
    assert all(
        torch.equal(one, other) for one, other in zip(trained(whole).values(), trained(second).values(), strict=True)
    )


def test_a_state_does_not_change_with_the_steps_after_it(model: Model, images: Images) -> None:
    loop, _ = fresh(model, images)
    loop.run(until=3)
    state = loop.state()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    loop.run(until=9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors.items())
    assert state.values["step"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "the seed was 5 there and is 6 here"),
        ({"epochs": 4}, "the number of steps was 18 there and is 24 here"),
        ({"batch_size": 8}, "another run"),
    ],
)
def test_a_state_of_another_run_is_refused(model: Model, images: Images, change: dict[str, int], message: str) -> None:
    state = fresh(model, images)[0].state()
    other, _ = fresh(model, images, training=replace(TRAINING, **change))  # type: ignore[arg-type]
    with pytest.raises(CrispError, match=message):
        other.load(state)


def test_a_state_of_another_model_or_of_none_is_refused(model: Model, images: Images) -> None:
    loop, _ = fresh(model, images)
    state = loop.state()
    less = State({k: v for k, v in state.tensors.items() if k != "module/conv2.weight"}, state.values)
    with pytest.raises(CrispError, match=r"tensor 'conv2.weight' differs"):
        loop.load(less)
    with pytest.raises(CrispError, match="another run"):
        loop.load(State())


def test_a_plan_comes_back_from_its_state_and_not_from_another_models(model: Model, images: Images) -> None:
    loop, ramp = fresh(model, images)
    loop.run(until=1)
    candidates = ramp.task.planner.candidates
    plan = plan_from(through_a_file(plan_state(ramp.plan)), candidates)
    for one, other in zip(plan.layers, ramp.plan.layers, strict=True):
        assert type(one) is type(other) and one.layer == other.layer
    for first, second in zip(plan.sparse(), ramp.plan.sparse(), strict=True):
        assert np.array_equal(first.mask, second.mask) and np.array_equal(first.kept, second.kept)
    with pytest.raises(CrispError, match="knows nothing of layer"):
        plan_from(plan_state(ramp.plan).part("nothing"), candidates)


class Told(Hooks):
    """Writes down when it is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def before_step(self, step: int) -> None:
        self.calls.append(("before", step))

    def after_backward(self, step: int, again: Again) -> None:
        self.calls.append(("backward", step))

    def after_step(self, step: int) -> None:
        self.calls.append(("after", step))


def test_hooks_are_called_around_every_step_and_only_once(model: Model, images: Images) -> None:
    task, told = make_task(model), Told()
    module, _ = started(model, images, task)
    loop = Loop(module, images, task, TRAINING, told)
    loop.run(until=2)
    loop.run(until=2)
    loop.run(until=3)
    assert told.calls == [(when, step) for step in range(3) for when in ("before", "backward", "after")]


tensors = st.dictionaries(st.text(min_size=1), st.integers(0, 9).map(torch.tensor), max_size=4)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["a", "a/b", "b"]), tensors, max_size=3))
def test_a_part_of_a_state_is_what_was_put_under_its_name(parts: dict[str, dict[str, Tensor]]) -> None:
    state = State()
    for name, content in parts.items():
        state |= State(content, dict.fromkeys(content, 1)).under(f"<{name}>")
    for name, content in parts.items():
        found = state.part(f"<{name}>")
        assert dict(found.tensors) == content and found.values.keys() == content.keys()


def test_what_another_output_answers_is_held_where_it_is_named(model_of: ModelOf, images: Images) -> None:
    text = (
        "(float[N,3,16,16] x) => (float[N,6] logits, float[N,4] b) <float[16,3,3,3] k, float[16,6] v, float[16,4] w>"
        "{ c = Conv(x, k) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) logits = MatMul(f, v) b = MatMul(f, w) }"
    )
    model = model_of(text)
    beside = Classification(tuple(range(4)), tuple(range(4)), "b", "b")

    def moved(answers: Classification) -> float:
        """How far the other output has gone from where it was."""
        task = replace(make_task(model), answers=answers)
        module = to_torch(model, ("logits", "b"))
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        Loop(module, images, task, replace(TRAINING, epochs=6, peak_rate=0.2), Hooks()).run()
        x = torch.from_numpy(next(images.batches(64))[0])
        module.eval()
        (now,) = module.several(x, ("b",))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(before[name])
        (then,) = module.several(x, ("b",))
        return float(
            torch.nn.functional.kl_div(
                now.log_softmax(1), then.log_softmax(1), log_target=True, reduction="sum"
            ).detach()
        )

    assert moved(replace(ANSWERS, beside=(beside,))) < 0.5 * moved(ANSWERS)
