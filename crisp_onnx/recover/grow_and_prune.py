"""Mode `grow-and-prune`: part after part of the network is dense for a while and then pruned anew (GaP).

The layers are parted by depth. The weights that a part has lost come back as zeros, all of it trains while the other
parts keep their masks, and then it is pruned again, to as many blocks as it had (Ma et al., arXiv 2106.09857).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.recover.features import block_ends
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import mask_gradients, plan_from, plan_state, put_masks, rechosen, saliency_of
from crisp_onnx.recover.recovered import Recovered, Refit
from crisp_onnx.recover.start import masked_start
from crisp_onnx.recover.state import State
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training

PARTS = 4


@dataclass(frozen=True)
class Cycle:
    """Of so many `steps`, the first half: each of the `parts` is dense for an equal share of it."""

    steps: int
    parts: int = PARTS
    share: float = 0.5

    @property
    def length(self) -> int:
        """Steps for which a part is dense."""
        return int(self.share * self.steps) // self.parts

    def grows(self, step: int) -> int | None:
        """The part that becomes dense in front of this step."""
        started = bool(self.length) and step % self.length == 0 and step < self.parts * self.length
        return step // self.length if started else None

    def pruned(self, step: int) -> int | None:
        """The part that is pruned in front of this step."""
        ended = bool(self.length) and step % self.length == 0 and 0 < step <= self.parts * self.length
        return step // self.length - 1 if ended else None


class GrowAndPrune(Hooks):
    """The module has the plan's masks, but for the part that is dense, which has ones."""

    def __init__(
        self, module: GraphModule, statistics: Mapping[str, Tensor], task: Task, plan: Plan, cycle: Cycle
    ) -> None:
        self.module, self.statistics, self.task, self.plan, self.cycle = module, statistics, task, plan, cycle

    def part(self, number: int) -> frozenset[str]:
        """Names of the weights of a part; the parts have as many layers each, or one more."""
        names = [sparse.layer.weight for sparse in self.plan.sparse()]
        begin, end = (len(names) * at // self.cycle.parts for at in (number, number + 1))
        return frozenset(names[begin:end])

    def before_step(self, step: int) -> None:
        done, next_part = self.cycle.pruned(step), self.cycle.grows(step)
        if done is not None:
            saliency = saliency_of(self.module, self.statistics, self.task)
            self.plan = rechosen(self.plan, saliency, self.part(done))
            put_masks(self.module, self.plan)
        if next_part is not None:
            parameters, masks = dict(self.module.named_parameters()), self.module.masks
            grown = self.part(next_part)
            with torch.no_grad():
                for name in grown:
                    parameters[name].mul_(masks[name])
            self.module.set_masks({name: torch.ones_like(masks[name]) for name in grown})

    def after_backward(self, step: int, again: Again) -> None:
        mask_gradients(self.module)

    def settled(self, step: int) -> bool:
        return step > self.cycle.parts * self.cycle.length

    def state(self) -> State:
        masks = State({f"mask/{name}": mask.cpu().clone() for name, mask in self.module.masks.items()})
        return plan_state(self.plan).under("plan") | masks

    def load(self, state: State) -> None:
        self.plan = plan_from(state.part("plan"), self.task.planner.candidates)
        self.module.set_masks(state.part("mask").tensors)


def recover(
    module: GraphModule,
    images: Images,
    statistics: Mapping[str, Tensor],
    task: Task,
    training: Training,
    refit: Refit,
    keeper: Keeper,
) -> Recovered:
    """See `Recover`."""
    teacher = copy.deepcopy(module)
    plan, fits = masked_start(module, statistics, task, refit, keeper)
    hooks = GrowAndPrune(module, statistics, task, plan, Cycle(training.steps(len(images))))
    loop = Loop(module, images, task, training, hooks, teacher=teacher, features=block_ends(module), keeper=keeper)
    loop.run()
    loop.finish()
    return Recovered(hooks.plan, fits, loop.notes)
