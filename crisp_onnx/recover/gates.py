"""Find widths while training: gates open and shut by the loss, by what they cost, and off the fence at the end.

Beside the weights, which train as in any recovery, the scores of gates follow

    L = loss + k (A / A_0 - tau(t)) + r/2 (A / A_0 - tau(t))^2 + e(t) E(s)

A is the relaxed cost and A_0 the whole network's, tau falls from what it is at first to the budget, and E is the
ejector with its clamped ramp (arXiv 2308.14605). The paper holds |A / A_0 - tau| down by a price k that every network
needs set by hand. Here k is a multiplier, which grows while the network costs more than tau(t) and falls while it costs
less, below 0 if need be; k, r and e are in units of the loss's own pull on the gates at the first step. Gates have an
optimiser of their own (Adam), without decay, which would pull scores to the fence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.channels import Gates, WidthCost, clamped_ramp, ejector
from crisp_onnx.channels.gates import STEEPNESS
from crisp_onnx.data import Images
from crisp_onnx.recover.features import block_ends
from crisp_onnx.recover.hooks import Again, Hooks
from crisp_onnx.recover.keeper import Keeper
from crisp_onnx.recover.loop import Loop
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import RATE_WITHOUT_BATCH_NORM, Training

PART = "gates"
REACH = 8.0
"""So many times a gate could go from open to the fence."""
FASTEST = 0.1
FARTHEST = 1.5
"""Scores: gates that are further open or shut could not come back in time."""
MEMORY, SQUARE_MEMORY, SMALLEST = 0.9, 0.99, 1e-12
PRICE, STIFFNESS, HASTE = 0.2, 4.0, 8.0
"""k at first, r, and by how much k grows in the whole search while the cost is 1 too high."""


@dataclass(frozen=True)
class Search:
    """When what happens, in shares of all steps: `fallen` is when tau is at the budget, `start` and `stop` bound the
    ejector's ramp, and from `steeper` on gates become steps, `steepest` times as steep at the end.
    """

    fallen: float = 0.6
    start: float = 0.5
    stop: float = 0.9
    steeper: float = 0.67
    steepest: float = 4.0
    ejection: float = 0.5

    def aim(self, done: float, first: float, share: float) -> float:
        """tau: the share of the cost to have at that share of the steps, from `first` down to `share`."""
        left = max(0.0, 1 - done / self.fallen)
        return share + (first - share) * left

    def steepness(self, done: float) -> float:
        """a of the gates."""
        late = max(0.0, (done - self.steeper) / (1 - self.steeper))
        return STEEPNESS * (1 + (self.steepest - 1) * late)


SEARCH = Search()


class Opening(Hooks):
    """Moves the gates' scores. `share`: of the whole network's `cost` that is to be left."""

    price: float
    units: tuple[float, ...]

    def __init__(
        self, module: GraphModule, gates: Gates, cost: WidthCost, share: float, steps: int, search: Search = SEARCH
    ) -> None:
        self.gates, self.cost, self.share, self.steps, self.search = gates, cost, share, steps, search
        self.whole = cost.at(np.zeros(gates.groups))
        self.scores = torch.tensor(gates.first, dtype=torch.float32, device=next(module.parameters()).device)
        self.first = cost.at(gates.removed(gates.opened(self.scores))) / self.whole
        self.scores.requires_grad_()
        self.mean, self.square = torch.zeros_like(self.scores.detach()), torch.zeros_like(self.scores.detach())
        self.price, self.units = PRICE, ()
        self.opened = self.scores
        self._open(0)
        device = self.scores.device
        module.set_lenses(
            {
                name: partial(self._through, torch.from_numpy(owners).to(device))
                for name, owners in gates.columns.items()
            }
        )

    def before_step(self, step: int) -> None:
        self._open(step)

    def after_backward(self, step: int, again: Again) -> None:
        done = step / self.steps
        asked = torch.zeros_like(self.scores) if self.scores.grad is None else self.scores.grad
        opened = self.gates.opened(self.scores, self.search.steepness(done))
        removed = self.gates.removed(opened)
        over = self.cost.at(removed) / self.whole - self.search.aim(done, self.first, self.share)
        slopes = torch.from_numpy(self.cost.slopes(removed)[self.gates.owners] / self.whole).to(opened)
        (dearer,) = torch.autograd.grad(opened, [self.scores], slopes)
        (nearer,) = torch.autograd.grad(ejector(self.scores), [self.scores])
        if not self.units:
            self.units = tuple(float(asked.norm() / one.norm().clamp_min(SMALLEST)) for one in (dearer, nearer))
        self.price += HASTE / self.steps * over
        force = self.search.ejection * clamped_ramp(done, self.search.start, self.search.stop)
        pull = (self.price + STIFFNESS * over) * self.units[0]
        self._move(step, asked + pull * dearer + force * self.units[1] * nearer)

    def after_step(self, step: int) -> None:
        self._open(step + 1)

    def state(self) -> State:
        tensors = {"scores": self.scores, "mean": self.mean, "square": self.square}
        return copied(tensors) | State({}, {"price": self.price, "units": list(self.units)})

    def load(self, state: State) -> None:
        restore({"scores": self.scores.data, "mean": self.mean, "square": self.square}, State(state.tensors))
        self.price, self.units = float(state.values["price"]), tuple(state.values["units"])

    def _open(self, step: int) -> None:
        self.opened = self.gates.opened(self.scores, self.search.steepness(step / self.steps))

    def _through(self, owners: Tensor, weight: Tensor) -> Tensor:
        return weight * torch.cat([self.opened, self.opened.new_ones(1)])[owners]

    @torch.no_grad()
    def _move(self, step: int, gradient: Tensor) -> None:
        """Adam, with scores kept where they can come back."""
        self.mean.lerp_(gradient, 1 - MEMORY)
        self.square.lerp_(gradient.square(), 1 - SQUARE_MEMORY)
        mean, square = self.mean / (1 - MEMORY ** (step + 1)), self.square / (1 - SQUARE_MEMORY ** (step + 1))
        rate = min(FASTEST, REACH / self.steps)
        self.scores -= rate * mean / (square.sqrt() + SMALLEST)
        self.scores.clamp_(-FARTHEST, FARTHEST)
        self.scores.grad = None


def search_gates(
    module: GraphModule,
    teacher: GraphModule,
    images: Images,
    task: Task,
    training: Training,
    gates: Gates,
    cost: WidthCost,
    share: float,
    keeper: Keeper,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Train `module` in place, without gates at the end: how far each is open (gates,), and what the user should know.

    The module answers as it should where its weights are multiplied by them (`FoldGates`).
    """
    # By the batch's own statistics BatchNorm would undo what gates take from all channels alike, and whole blocks would
    # shut without the loss's saying a word.
    rate = min(training.peak_rate, RATE_WITHOUT_BATCH_NORM)
    training = replace(training, keeps_statistics=True, peak_rate=rate)
    hooks = Opening(module, gates, cost, share, training.steps(len(images)))
    loop = Loop(
        module, images, task, training, hooks, teacher=teacher, features=block_ends(module), keeper=keeper, part=PART
    )
    loop.run()
    hooks.after_step(hooks.steps - 1)
    loop.finish()
    module.set_lenses({})
    return hooks.opened.detach().cpu().numpy().astype(np.float64), loop.notes
