"""`Classification`: what a row of a model's answers means. A second task would be a value of its own beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crisp_onnx.task.head import Form, Head


@dataclass(frozen=True)
class Classification:
    """Rows of scores, a column a class. Classes are numbered by the outputs of the model as its user gave it.

    `columns[i]`: the class of column i; all in order, but for a sliced head. `wanted`: the user's classes, in the order
    of the user's list. `exclusive`: an image has one class, and its scores compete; else each class is there or not on
    its own.

    `output` holds the rows in the file, as `form` says; `logits` is the tensor that training reads, as `logits_form`
    says: the torch module computes no other.
    """

    columns: tuple[int, ...]
    wanted: tuple[int, ...]
    output: str
    logits: str
    form: Form = "logits"
    logits_form: Form = "logits"
    exclusive: bool = True

    @property
    def places(self) -> tuple[int, ...]:
        """The columns of the user's classes, in their order."""
        column = {index: place for place, index in enumerate(self.columns)}
        return tuple(column[index] for index in self.wanted)

    def sliced(self) -> Classification:
        """The same task for a head that is cut down to the user's classes."""
        return replace(self, columns=self.wanted)


def task_of(head: Head, wanted: tuple[int, ...]) -> Classification:
    """The task of a model that was not cut: column i is output i."""
    return Classification(
        tuple(range(head.classes)), wanted, head.output, head.logits, head.form, head.logits_form, head.exclusive
    )
