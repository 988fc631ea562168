"""`Classification`: what a row of a model's answers means. `Segmentation` is the second task, a value beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from crisp_onnx.task.head import Form

Array = Any
"""An array of NumPy or a tensor of torch."""


@dataclass(frozen=True)
class Classification:
    """Rows of scores, a column a class. Classes are numbered by the outputs of the model as its user gave it.

    `columns[i]`: the class of column i; all in order, but for a sliced head. `wanted`: the user's classes, in the order
    of the user's list. `exclusive`: an image has one class, and its scores compete; else each class is there or not on
    its own.

    `output` holds the rows in the file, as `form` says; `logits` is the tensor that training reads, as `logits_form`
    says: the torch module computes no other than these and those of the tasks `beside`: other outputs of the model,
    whose untouched answers are to stay.
    """

    columns: tuple[int, ...]
    wanted: tuple[int, ...]
    output: str
    logits: str
    form: Form = "logits"
    logits_form: Form = "logits"
    exclusive: bool = True
    beside: tuple[Classification, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """The columns of the user's classes, in their order."""
        column = {index: place for place, index in enumerate(self.columns)}
        return tuple(column[index] for index in self.wanted)

    @property
    def every(self) -> tuple[Classification, ...]:
        """This task and those beside it."""
        return (self, *self.beside)

    @property
    def trained(self) -> tuple[str, ...]:
        """The tensors that training reads, in the order of `every`."""
        return tuple(task.logits for task in self.every)

    @property
    def outputs(self) -> str:
        """The names of all outputs that matter, for what is kept beside results."""
        return ", ".join(task.output for task in self.every)

    @property
    def name(self) -> str:
        """As `--task` has it."""
        return "classification"

    @property
    def suggested(self) -> tuple[int, ...]:
        """The classes among which a model's own answer stands for a label that is missing."""
        return self.wanted

    def rows(self, answers: Array) -> Array:
        """Answers (n, ...) as rows (n, columns); (columns,) is the row of a single image."""
        return answers.reshape(1 if answers.ndim == 1 else len(answers), -1)

    def truths(self, labels: Array) -> Array:
        """The labels of some images as those of their rows."""
        return labels

    def mirrored(self, answers: Array) -> Array:
        """What stands where, in the answers to mirrored images, the answers to the images themselves would."""
        return answers

    def sliced(self) -> Classification:
        """The same task for a head that is cut down to the user's classes."""
        return replace(self, columns=self.wanted)
