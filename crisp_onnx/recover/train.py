"""Fine-tune under masks: sparsity rises early, masks are chosen anew from dense gradients, then frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, prepared_for
from crisp_onnx.data import Images
from crisp_onnx.masks import Plan
from crisp_onnx.progress import bar
from crisp_onnx.recover.augment import augment
from crisp_onnx.recover.compiled import Forward, autocast, compiled
from crisp_onnx.recover.objective import objective
from crisp_onnx.recover.schedule import Schedule
from crisp_onnx.recover.statistics import reestimate
from crisp_onnx.recover.task import Task, put_masks, saliency_of
from crisp_onnx.saliency.loss import as_tensor, logits_of

GRADIENT_MEMORY = 0.95


@dataclass(frozen=True)
class Training:
    """How long and how: `epochs` over the images in batches of `batch_size`, at most `peak_rate`."""

    epochs: int
    batch_size: int = 64
    peak_rate: float = 0.05
    weight_decay: float = 5e-4
    flip: bool = False
    channels_last_input: bool = False
    seed: int = 0


def recover(
    module: GraphModule, images: Images, statistics: Mapping[str, Tensor], task: Task, training: Training
) -> Plan:
    """Train `module` in place; return the plan whose masks it ends with.

    `statistics`: what the criterion needs, by weight name; for gradient criteria the start of a running mean.
    """
    device = next(module.parameters()).device
    per_epoch = max(1, len(images) // training.batch_size)
    steps = training.epochs * per_epoch
    schedule = Schedule(steps, warmup=per_epoch, peak_rate=training.peak_rate)
    height, width = images.preprocess.size
    running = {name: statistics[name].clone() for name in task.weights}
    trainer = _Trainer(module, task, training, running, steps=steps, pixels=height * width, device=device)
    random = np.random.default_rng(training.seed)
    step = 0
    with bar("recovery", steps) as advance:
        for _ in range(training.epochs):
            order = random.permutation(len(images))[: per_epoch * training.batch_size]
            for inputs, labels in images.batches(training.batch_size, order=order):
                if schedule.chooses(step):
                    trainer.choose(schedule, step)
                choosing = step < int(schedule.freeze * steps)
                trainer.step(inputs, labels, schedule.rate(step), watch_gradients=choosing)
                step += 1
                advance(1)
    reestimate(module, images, transform=trainer.augmented, batch_size=training.batch_size)
    return trainer.plan


@dataclass
class _Trainer:
    """The state of one recovery."""

    module: GraphModule
    task: Task
    training: Training
    running: dict[str, Tensor]
    steps: int
    pixels: int
    device: torch.device
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        prepared_for(self.device, self.module)
        teacher = copy.deepcopy(self.module).eval().requires_grad_(False)
        teacher.clear_masks()
        self.generator = torch.Generator().manual_seed(self.training.seed)
        self.classes = as_tensor(self.task.classes, self.device)
        self.module.train()
        self.module.bn_momentum = 0.1
        self.forward: Forward = compiled(self.module, steps=self.steps, pixels=self.pixels, device=self.device)
        self.teach: Forward = compiled(teacher, steps=self.steps, pixels=self.pixels, device=self.device)
        self.optimizer = _optimizer(self.module, self.training)

    def choose(self, schedule: Schedule, step: int) -> None:
        """Choose masks for this step of the ramp from the running statistics."""
        planner = self.task.planner.loosened(schedule.loose(step))
        self.plan = planner.plan(saliency_of(self.module, self.running, self.task))
        put_masks(self.module, self.plan, self.task.weights)

    def augmented(self, images: Tensor) -> Tensor:
        """Crops and mirror images of a batch, as the training asks for them."""
        flip, last = self.training.flip, self.training.channels_last_input
        return augment(images, self.generator, flip=flip, channels_last=last)

    def step(
        self,
        inputs: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64] | None,
        rate: float,
        *,
        watch_gradients: bool,
    ) -> None:
        """One optimiser step on one batch."""
        batch = self.augmented(torch.from_numpy(inputs)).to(self.device)
        if batch.ndim == 4:
            batch = batch.to(memory_format=torch.channels_last)
        target = None if labels is None else torch.from_numpy(labels).to(self.device)
        with autocast(self.device):
            with torch.no_grad():
                taught = self.teach(batch)
            answered = self.forward(batch)
        student = logits_of(answered, probabilities=self.task.probabilities)
        teacher = logits_of(taught, probabilities=self.task.probabilities)
        loss = objective(student, teacher, target, self.classes, all_outputs=self.task.all_outputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if watch_gradients and self.task.criterion.from_gradients:
            self._watch()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self.optimizer.step()

    def _watch(self) -> None:
        """Add this batch's dense gradients to the running means."""
        squared = self.task.criterion.needs == "gradient_square"
        parameters = dict(self.module.named_parameters())
        for name, mean in self.running.items():
            gradient = parameters[name].grad
            if gradient is not None:
                mean.lerp_(gradient.square() if squared else gradient.abs(), 1 - GRADIENT_MEMORY)


def _optimizer(module: GraphModule, training: Training) -> torch.optim.SGD:
    """SGD with Nesterov momentum; biases and normalisation parameters are not decayed."""
    parameters: Sequence[Tensor] = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=training.peak_rate, momentum=0.9, nesterov=True)
