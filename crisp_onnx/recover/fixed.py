"""Mode `fixed`: masks are chosen once, the weights that are left are re-fitted, and then all training goes into them.

Choosing anew while training costs more than better masks bring: every change of a mask throws away what its neighbours
have learnt.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.recover.features import block_ends
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import mask_gradients, plan_from, plan_state, put_masks
from crisp_onnx.recover.recovered import Recovered, Refit
from crisp_onnx.recover.start import masked_start
from crisp_onnx.recover.state import State
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training


class Fixed(Hooks):
    """Keeps the gradients of removed weights out of the optimiser and of the norm that gradients are clipped to."""

    def __init__(self, module: GraphModule, plan: Plan, task: Task) -> None:
        self.module, self.plan, self.task = module, plan, task

    def after_backward(self, step: int, again: Again) -> None:
        mask_gradients(self.module)

    def state(self) -> State:
        return plan_state(self.plan).under("plan")

    def load(self, state: State) -> None:
        self.plan = plan_from(state.part("plan"), self.task.planner.candidates)
        put_masks(self.module, self.plan)


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
    hooks = Fixed(module, plan, task)
    loop = Loop(module, images, task, training, hooks, teacher=teacher, features=block_ends(module), keeper=keeper)
    loop.run()
    loop.finish()
    return Recovered(plan, fits, loop.notes)
