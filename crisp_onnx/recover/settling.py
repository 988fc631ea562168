"""`Settling`: masks are chosen anew for a share of the steps, then for the last time, and the rest trains under them.

Modes differ in what the steps before that do with the weights that the masks of the moment leave out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover.features import block_ends
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import mask_gradients, plan_from, plan_state, put_masks, saliency_of
from crisp_onnx.recover.recovered import FIRST_MASKS, Recovered, Refit
from crisp_onnx.recover.start import fits_from, fits_state
from crisp_onnx.recover.state import State
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training


@dataclass(frozen=True)
class Choices:
    """Of so many `steps`, those at which masks are chosen: `every` so many, and for the last time at a share of all."""

    steps: int
    until: float = 0.4
    every: int = 20

    @property
    def last(self) -> int:
        """The step of the last choice."""
        return int(self.until * self.steps)

    def at(self, step: int) -> bool:
        """Whether masks are chosen at this step."""
        return step == self.last or (step < self.last and step % self.every == 0)


class Settling(Hooks):
    """`plan`: the last one chosen. Its masks are in the module once they stay; before, a mode says what is in there.

    `refits_first`: weights are re-fitted under the first masks, not under those that stay. A re-fit follows the network
    that the module is without its masks, and that answers only as long as training goes through all of its weights.
    """

    refits_first = False

    def __init__(
        self, module: GraphModule, statistics: Mapping[str, Tensor], task: Task, choices: Choices, refit: Refit
    ) -> None:
        self.module, self.statistics, self.task, self.choices, self.refit = module, statistics, task, choices, refit
        self.plan, self.fits = Plan(), tuple[LayerFit, ...]()
        put_masks(module, self.plan, task.weights)

    def chosen(self, step: int) -> None:
        """Masks were chosen that do not stay."""

    def loose(self, step: int, again: Again) -> None:
        """As `after_backward`, while masks do not stay."""

    def moved(self, step: int) -> None:
        """As `after_step`, while masks do not stay."""

    def before_step(self, step: int) -> None:
        if not self.choices.at(step):
            return
        self.plan = self.task.planner.plan(saliency_of(self.module, self.statistics, self.task))
        last = step == self.choices.last
        if last:
            put_masks(self.module, self.plan, self.task.weights)
        else:
            self.chosen(step)
        if step == 0 if self.refits_first else last:
            refitted = self.refit(self.module, self.plan)
            self.plan, self.fits = refitted.plan, refitted.fits
            self.module.train()

    def after_backward(self, step: int, again: Again) -> None:
        if step < self.choices.last:
            self.loose(step, again)
        else:
            mask_gradients(self.module)

    def after_step(self, step: int) -> None:
        if step < self.choices.last:
            self.moved(step)

    def settled(self, step: int) -> bool:
        return step > self.choices.last

    def state(self) -> State:
        masks = State({f"mask/{name}": mask.cpu().clone() for name, mask in self.module.masks.items()})
        return plan_state(self.plan).under("plan") | fits_state(self.fits) | masks

    def load(self, state: State) -> None:
        self.fits = fits_from(state)
        self.module.set_masks(state.part("mask").tensors)
        plan = state.part("plan")
        if plan.values["dense"] or plan.tensors:
            self.plan = plan_from(plan, self.task.planner.candidates)


class MakeSettling(Protocol):
    """A class of hooks that settle."""

    def __call__(
        self, module: GraphModule, statistics: Mapping[str, Tensor], task: Task, choices: Choices, refit: Refit
    ) -> Settling: ...


def recover_settling(
    make: MakeSettling,
    module: GraphModule,
    images: Images,
    statistics: Mapping[str, Tensor],
    task: Task,
    training: Training,
    refit: Refit,
    keeper: Keeper,
) -> Recovered:
    """Train with such hooks, taught by the dense network; see `Recover`."""
    teacher = copy.deepcopy(module)
    hooks = make(module, statistics, task, Choices(training.steps(len(images))), refit)
    loop = Loop(module, images, task, training, hooks, teacher=teacher, features=block_ends(module), keeper=keeper)
    loop.run()
    loop.finish()
    notes = (FIRST_MASKS,) if hooks.fits and hooks.refits_first else ()
    return Recovered(hooks.plan, hooks.fits, (*notes, *loop.notes))
