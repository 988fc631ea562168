"""The training loop: optimisation with distillation from the dense model, hooks for a mode, and its whole state.

A run that is stopped after any step and taken up by `load` in a fresh loop ends with the very same weights: the order
of the images follows from seed and epoch, and everything else that steps change is in `state()`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, prepared_for
from crisp_onnx.data import Images
from crisp_onnx.data.images import Batch
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.recover.augment import augment
from crisp_onnx.recover.compiled import autocast, compiled
from crisp_onnx.recover.features import FEATURE_WEIGHT, Shown, feature_loss
from crisp_onnx.recover.hooks import Hooks
from crisp_onnx.recover.keeper import Keeper, NoKeeper
from crisp_onnx.recover.objective import objective
from crisp_onnx.recover.patience import Patience, held_out_loss
from crisp_onnx.recover.schedule import Schedule
from crisp_onnx.recover.start import trained_tensors
from crisp_onnx.recover.state import State, copied, restore
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task
from crisp_onnx.recover.training import Training

MAX_GRADIENT_NORM = 5.0
PART = "training"


class Loop:
    """Trains `module` in place, `hooks` acting around each step.

    `teacher`: whose answers it is to give, itself as it comes if there is no other. `features`: inner tensors in which
    it is to follow the teacher too, of which `picks` says what the module has: by tensor, axes and the indices along
    them. `keeper`: of the state, from which the training goes on where there is one, by the name of `part`.
    """

    def __init__(
        self,
        module: GraphModule,
        images: Images,
        task: Task,
        training: Training,
        hooks: Hooks,
        *,
        teacher: GraphModule | None = None,
        features: Sequence[str] = (),
        picks: Mapping[str, tuple[tuple[int, Tensor], ...]] | None = None,
        keeper: Keeper | None = None,
        part: str = PART,
    ) -> None:
        self.module, self.images, self.task, self.training, self.hooks = module, images, task, training, hooks
        self.device = next(module.parameters()).device
        self.step = 0
        self.size = min(training.batch_size, len(images))
        self.steps = training.steps(len(images))
        per_epoch = training.steps_per_epoch(len(images))
        self.schedule = Schedule(self.steps, warmup=per_epoch, peak_rate=training.peak_rate)
        prepared_for(self.device, module)
        teacher = (teacher or copy.deepcopy(module)).eval().requires_grad_(False)
        teacher.clear_masks()
        prepared_for(self.device, teacher)
        height, width = images.preprocess.size
        inner = (*module.output_names[1 : len(task.answers.every)], *features)
        self.forward, self.teach = (
            compiled(Shown(part, inner, own), steps=self.steps, pixels=height * width, device=self.device)
            if module.processes.count == 1  # what processes exchange in BatchNorm is not compiled
            else Shown(part, inner, own)
            for part, own in ((module, None), (teacher, picks))
        )
        self.optimizer = _optimizer(module, training)
        self.generator = torch.Generator().manual_seed(training.seed)
        torch.manual_seed(training.seed)  # whatever was drawn before: a run that is taken up skips that
        self.patience = None
        if training.patience is not None and training.judged is not None:
            judge = partial(held_out_loss, module, teacher, training.judged, task, batch_size=training.batch_size)
            self.patience = Patience(module, training.patience, judge)
        self.keeper: Keeper = NoKeeper() if keeper is None else keeper
        self.part = part
        kept = self.keeper.get(part)
        if kept is not None:
            self.load(kept)

    def run(self, until: int | None = None) -> None:
        """Train to the end, or until that many steps are done."""
        last = self.steps if until is None else min(until, self.steps)
        self.module.train(not self.training.keeps_statistics)
        self.module.bn_momentum = 0.1
        per_epoch = self.training.steps_per_epoch(len(self.images))
        with bar("recovery", self.steps) as advance:
            advance(self.step)
            for inputs, labels in self._batches(self.step if self.over else last):
                self.hooks.before_step(self.step)
                batch, target = self._batch(inputs, labels)
                self._backward(batch, target)
                self.hooks.after_backward(self.step, partial(self._backward_again, batch, target))
                self._move()
                self.hooks.after_step(self.step)
                self.step += 1
                if self.patience is not None and self.step % per_epoch == 0 and self.hooks.settled(self.step):
                    self.patience.look(self.step // per_epoch)
                if self.keeper.due or self.over:
                    self.keeper.put(self.part, self.state())
                advance(1)
                if self.over:
                    break

    @property
    def over(self) -> bool:
        """Whether the last step is done, or held-out images have ended the training."""
        return self.step >= self.steps or (self.patience is not None and self.patience.over)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how training ended."""
        if self.patience is None or not self.patience.best_at:
            return ()
        epochs = self.step // self.training.steps_per_epoch(len(self.images))
        return (
            f"Training ended after {epochs} of {self.training.epochs} epochs, and the weights are those after epoch "
            f"{self.patience.best_at}: held-out images were answered best then.",
        )

    def finish(self) -> None:
        """Re-estimate the BatchNorm statistics of the weights that training ends with, and leave training mode."""
        if self.patience is not None:
            self.patience.settle()
        reestimate(self.module, self.images, transform=self.augmented, batch_size=self.training.batch_size)
        self.module.eval()

    def state(self) -> State:
        """Everything that the steps so far have changed, the mode's own state under `mode/`."""
        random = {"augment": self.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["device"] = torch.cuda.get_rng_state(self.device)
        return (
            State({}, {"step": self.step, "run": self._run()})
            | copied(trained_tensors(self.module)).under("module")
            | copied(random).under("random")
            | _optimizer_state(self.optimizer).under("optimizer")
            | self.hooks.state().under("mode")
            | (State() if self.patience is None else self.patience.state().under("patience"))
        )

    def load(self, state: State) -> None:
        """Take up where `state()` was taken, in a loop made alike from the untouched model.

        Raises:
            CrispError: the state is of another run or of another model.
        """
        found = state.values.get("run", {})
        for name, value in self._run().items():
            if found.get(name) != value:
                raise CrispError(
                    f"The saved state is of another run: {name} was {found.get(name)} there and is {value} here. "
                    "Start the run anew."
                )
        restore(trained_tensors(self.module), state.part("module"))
        random = state.part("random").tensors
        self.generator.set_state(random["augment"])
        torch.set_rng_state(random["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(random["device"], self.device)
        _load_optimizer(self.optimizer, state.part("optimizer"))
        self.hooks.load(state.part("mode"))
        if self.patience is not None:
            self.patience.load(state.part("patience"))
        self.step = int(state.values["step"])

    def augmented(self, images: Tensor, whole: int) -> Tensor:
        """Crops and mirror images of this process's share of a batch of `whole` images, as the training asks for."""
        return self._augmented(images, None, whole)[0]

    def _augmented(self, images: Tensor, labels: Tensor | None, whole: int) -> tuple[Tensor, Tensor | None]:
        if not self.training.augments:
            return images, labels
        training, share = self.training, self.module.processes.share(whole)
        return augment(
            images, labels, self.generator, flip=training.flip, shift=training.shift,
            channels_last=training.channels_last_input, whole=whole, share=share,
        )  # fmt: skip

    def _run(self) -> dict[str, int]:
        """What a state must have in common with the loop that takes it up."""
        return {
            "the number of images": len(self.images),
            "the number of steps": self.steps,
            "the batch size": self.training.batch_size,
            "the seed": self.training.seed,
        }

    def _batches(self, last: int) -> Iterator[Batch]:
        """The batches of the steps from `self.step` to `last`. Each epoch has a permutation of its own."""
        size, per_epoch = self.size, self.training.steps_per_epoch(len(self.images))
        own = len(range(size)[self.module.processes.share(size)])
        first, random = self.step, np.random.default_rng(self.training.seed)
        for epoch in range(self.training.epochs):
            order = random.permutation(len(self.images))[: per_epoch * size]
            begin, end = (min(max(0, step - epoch * per_epoch), per_epoch) * size for step in (first, last))
            if begin < end:
                places = self.module.processes.share_of_batches(order[begin:end], size)
                yield from self.images.batches(own, order=places)

    def _batch(
        self, inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Images as they are shown, and their classes, on the device."""
        given = None if labels is None else torch.from_numpy(labels)
        batch, target = self._augmented(torch.from_numpy(inputs), given, self.size)
        batch = batch.to(self.device)
        if batch.ndim == 4:
            batch = batch.to(memory_format=torch.channels_last)
        return batch, None if target is None else target.to(self.device)

    def _backward_again(self, batch: Tensor, target: Tensor | None) -> None:
        """See `Hooks.after_backward`."""
        statistics = {name: self.module.get_statistic(name) for name in self.module.statistics}
        before = {name: statistic.clone() for name, statistic in statistics.items()}
        self._backward(batch, target)
        for name, statistic in statistics.items():
            statistic.copy_(before[name])

    def _backward(self, batch: Tensor, target: Tensor | None) -> None:
        """Gradients of one batch, of which each process has a share."""
        processes, weight = self.module.processes, len(batch) / self.size
        with autocast(self.device):
            with torch.no_grad():
                taught = self.teach(batch)
            answered = self.forward(batch)
        count = len(self.task.answers.every)
        loss = objective(answered[:count], taught[:count], target, self.task)
        if answered[count:]:
            loss = loss + FEATURE_WEIGHT * feature_loss(answered[count:], taught[count:], processes, weight)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * weight if processes.count > 1 else loss).backward()  # type: ignore[no-untyped-call]
        for parameter in self.module.parameters() if processes.count > 1 else ():
            if parameter.grad is not None:
                processes.add(parameter.grad)

    def _move(self) -> None:
        """One step of the optimiser."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()


def _optimizer(module: GraphModule, training: Training) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; biases and normalisation parameters are not decayed."""
    parameters: Sequence[Tensor] = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=training.peak_rate, momentum=0.9, nesterov=True)


def _optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """What the optimiser remembers of each parameter, under the parameter's number."""
    found = {
        f"{number}/{key}": value
        for number, remembered in optimizer.state_dict()["state"].items()
        for key, value in remembered.items()
    }
    tensors = {key: value for key, value in found.items() if isinstance(value, Tensor)}
    return copied(tensors) | State({}, {key: value for key, value in found.items() if key not in tensors})


def _load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    remembered: dict[int, dict[str, object]] = {}
    for name, value in (*state.tensors.items(), *state.values.items()):
        number, key = name.split("/", 1)
        remembered.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": remembered, "param_groups": optimizer.state_dict()["param_groups"]})
