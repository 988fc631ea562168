"""`Frontier`: two networks of the same nodes go forward together over all images and stop in front of node after node.

What later nodes need of what was computed is kept, batch by batch, as long as it fits a fixed number of bytes; where it
does not, the next stop is reached from an earlier one again. So memory does not grow with the images, and most nodes
run once or twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images

KEPT_BYTES = 1 << 30
LARGEST_HALF = 6e4


@dataclass(frozen=True, eq=False)
class Part:
    """Some images, by their places; `judged` ones decide and are not learnt from."""

    images: Images
    places: npt.NDArray[np.int64]
    judged: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch of images: some tensors of the student and of the teacher, by name."""

    images: int
    judged: bool
    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Batch:
    """What is known of a batch of images in each network."""

    images: int
    judged: bool
    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]

    @property
    def bytes(self) -> int:
        tensors = (*self.student.values(), *self.teacher.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def packed(self) -> _Batch:
        """In half precision, which holds a number to a part in two thousand."""
        return self._each(_half)

    def unpacked(self) -> _Batch:
        return self._each(lambda tensor: tensor.float() if tensor.dtype == torch.float16 else tensor)

    def _each(self, change: Callable[[Tensor], Tensor]) -> _Batch:
        sides = ({name: change(tensor) for name, tensor in side.items()} for side in (self.student, self.teacher))
        return _Batch(self.images, self.judged, *sides)


def _half(tensor: Tensor) -> Tensor:
    fits = tensor.dtype == torch.float32 and tensor.numel() and float(tensor.abs().max()) < LARGEST_HALF
    return tensor.half() if fits else tensor


class Frontier:
    """`student` and `teacher` are in eval mode. What lies in front of the last stop must not change any more."""

    def __init__(
        self,
        student: GraphModule,
        teacher: GraphModule,
        parts: Sequence[Part],
        *,
        batch_size: int,
    ) -> None:
        self.student, self.teacher = student, teacher
        self._parts, self._size = parts, batch_size
        self._kept: list[_Batch] = []
        self._batches = sum(-(-len(part.places) // batch_size) for part in parts)

    def see(self, of_student: Sequence[str], of_teacher: Sequence[str], behind: Sequence[str]) -> Iterator[Seen]:
        """Yield tensors of each network for every batch, and keep `behind`, from which all later nodes can start."""
        kept: list[_Batch] = []
        for number, batch in enumerate(self._known()):
            with torch.no_grad():
                student = self.student.run(batch.student, [*of_student, *behind])
                teacher = self.teacher.run(batch.teacher, [*of_teacher, *behind])
            yield Seen(batch.images, batch.judged, student, teacher)
            sides = ({name: side[name] for name in behind} for side in (student, teacher))
            left = _Batch(batch.images, batch.judged, *sides)
            if number == 0:
                needed = left.bytes * self._batches
                keep, half = needed <= 2 * KEPT_BYTES, needed > KEPT_BYTES
            if keep:
                kept.append(left.packed() if half else left)
                if self._kept:
                    self._kept[number] = kept[number]  # lets go of what stood there
        self._kept = kept or self._kept

    def _known(self) -> Iterator[_Batch]:
        if self._kept:
            for number in range(len(self._kept)):
                yield self._kept[number].unpacked()
            return
        name, device = self.student.input_names[0], next(self.student.parameters()).device
        for part in self._parts:
            for inputs, _ in part.images.batches(self._size, order=part.places):
                images = {name: to_batch(inputs, device)}
                yield _Batch(len(inputs), part.judged, images, images)


def live(module: GraphModule, first: int, last: int) -> tuple[str, ...]:
    """Names of the tensors that nodes number `first` to `last` read and that earlier ones compute, or the input."""
    known = {name for node in module.nodes[:first] for name in node.outputs if name} | set(module.input_names)
    read = (name for node in module.nodes[first : last + 1] for name in node.inputs)
    return tuple(dict.fromkeys(name for name in read if name in known))
