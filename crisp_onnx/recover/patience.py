"""Early stop: training ends when held-out images have not been answered better for some epochs, at the best weights."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.recover.objective import objective
from crisp_onnx.recover.start import trained_tensors
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.task import Task


class Patience:
    """`loss`: of the held-out images, now. Training is over after `epochs` without a smaller one."""

    def __init__(self, module: GraphModule, epochs: int, loss: Callable[[], float]) -> None:
        self.module, self.epochs, self.loss = module, epochs, loss
        self.least, self.waited, self.seen, self.best_at = inf, 0, 0, 0
        self._best = State()

    @property
    def over(self) -> bool:
        """Whether it has waited in vain for long enough."""
        return self.waited >= self.epochs

    def look(self, epoch: int) -> None:
        """Judge the weights after that many epochs."""
        found, self.seen = self.loss(), epoch
        if found < self.least:
            self.least, self.waited, self.best_at = found, 0, epoch
            self._best = copied(trained_tensors(self.module))
        else:
            self.waited += 1

    def settle(self) -> None:
        """Give the module the best weights that were seen."""
        if self._best.tensors:
            restore(trained_tensors(self.module), self._best)

    def state(self) -> State:
        """All that it has come to."""
        least = None if self.least == inf else self.least
        told = {"least": least, "waited": self.waited, "seen": self.seen, "best_at": self.best_at}
        return State({}, told) | self._best.under("best")

    def load(self, state: State) -> None:
        """Take up where `state()` was taken."""
        told = state.values
        self.least = inf if told["least"] is None else told["least"]
        self.waited, self.seen, self.best_at = told["waited"], told["seen"], told["best_at"]
        self._best = state.part("best")


def held_out_loss(module: GraphModule, teacher: GraphModule, judged: Images, task: Task, *, batch_size: int) -> float:
    """What training minimises, but for features, as the mean over `judged`; `module` is left in training mode."""
    device, total = next(module.parameters()).device, 0.0
    names = module.output_names[: len(task.answers.every)]
    module.eval()
    with torch.no_grad():
        for inputs, labels in judged.batches(batch_size):
            batch = to_batch(inputs, device)
            student, taught = (part.several(batch, names) for part in (module, teacher))
            target: Tensor | None = None if labels is None else torch.from_numpy(labels).to(device)
            loss = objective(student, taught, target, task)
            total += float(loss) * len(inputs)
    module.train()
    return total / len(judged)
