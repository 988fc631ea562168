"""Mode `ramp`: sparsity rises early, masks are chosen anew from dense gradients, then frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct import LayerFit
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.masking import plan_from, plan_state, put_masks, saliency_of
from crisp_onnx.recover.recovered import FIRST_MASKS, Recovered, Refit
from crisp_onnx.recover.start import fits_from, fits_state
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training

GRADIENT_MEMORY = 0.95


@dataclass(frozen=True)
class Rise:
    """Shares of all steps: the rise ends at `ramp`, masks freeze at `freeze`; until then they are chosen anew.

    Steps after the freeze are worth more than late choices, so both come early.
    """

    steps: int
    ramp: float = 0.3
    freeze: float = 0.4
    every: int = 20

    @property
    def last_choice(self) -> int:
        """The step of the last choice, under the full budget."""
        return int(self.freeze * self.steps)

    def loose(self, step: int) -> float:
        """Share of the pruning still undone: falls as a cube from 1 to 0 (Zhu and Gupta, arXiv 1710.01878)."""
        if step >= self.last_choice:
            return 0.0
        left: float = max(0.0, 1 - step / max(1.0, self.ramp * self.steps))
        return left**3

    def chooses(self, step: int) -> bool:
        """Whether masks are chosen at this step."""
        return step == self.last_choice or (step < self.last_choice and step % self.every == 0)


class Ramp(Hooks):
    """Chooses masks from a running mean of the gradients, which starts from the `statistics` by weight name.

    The first choice is followed by `refit`: later, the network that the module is without its masks answers no more.
    """

    def __init__(
        self, module: GraphModule, statistics: Mapping[str, Tensor], task: Task, rise: Rise, refit: Refit
    ) -> None:
        self.module, self.task, self.rise, self.refit = module, task, rise, refit
        self.fits: tuple[LayerFit, ...] = ()
        self.running = {name: statistics[name].clone() for name in task.weights}
        self.plan = Plan()

    def before_step(self, step: int) -> None:
        if self.rise.chooses(step):
            planner = self.task.planner.loosened(self.rise.loose(step))
            self.plan = planner.plan(saliency_of(self.module, self.running, self.task))
            put_masks(self.module, self.plan, self.task.weights)
        if step == 0:
            refitted = self.refit(self.module, self.plan)
            self.plan, self.fits = refitted.plan, refitted.fits
            self.module.train()

    def after_backward(self, step: int, again: Again) -> None:
        if step >= self.rise.last_choice or not self.task.criterion.from_gradients:
            return
        squared = self.task.criterion.needs == "gradient_square"
        parameters = dict(self.module.named_parameters())
        for name, mean in self.running.items():
            gradient = parameters[name].grad
            if gradient is not None:
                mean.lerp_(gradient.square() if squared else gradient.abs(), 1 - GRADIENT_MEMORY)

    def settled(self, step: int) -> bool:
        return step > self.rise.last_choice

    def state(self) -> State:
        return copied(self.running).under("running") | plan_state(self.plan).under("plan") | fits_state(self.fits)

    def load(self, state: State) -> None:
        restore(self.running, state.part("running"))
        self.fits = fits_from(state)
        plan = state.part("plan")
        if plan.values["dense"] or plan.tensors:
            self.plan = plan_from(plan, self.task.planner.candidates)
            put_masks(self.module, self.plan, self.task.weights)


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
    ramp = Ramp(module, statistics, task, Rise(training.steps(len(images))), refit)
    loop = Loop(module, images, task, training, ramp, keeper=keeper)
    loop.run()
    loop.finish()
    notes = (FIRST_MASKS,) if ramp.fits else ()
    return Recovered(ramp.plan, ramp.fits, (*notes, *loop.notes))
