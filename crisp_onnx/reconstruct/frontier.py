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


@dataclass(frozen=True)
class Needed:
    """Names of the tensors from which the nodes that are still to run can start, in each network."""

    student: tuple[str, ...]
    teacher: tuple[str, ...]


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

    def see(self, wanted: tuple[Sequence[str], Sequence[str]], needed: Needed) -> Iterator[Seen]:
        """Yield the tensors `wanted` of student and teacher for every batch, and keep those `needed` behind them.

        All that is wanted later must follow from what is kept.
        """
        kept: list[_Batch] = []
        for number, batch in enumerate(self._known()):
            with torch.no_grad():
                student = self.student.run(batch.student, [*wanted[0], *needed.student])
                teacher = self.teacher.run(batch.teacher, [*wanted[1], *needed.teacher])
            yield Seen(batch.images, batch.judged, student, teacher)
            kept_names = ((student, needed.student), (teacher, needed.teacher))
            sides = ({name: side[name] for name in names} for side, names in kept_names)
            left = _Batch(batch.images, batch.judged, *sides)
            if number == 0:
                taken = left.bytes * self._batches
                keep, half = taken <= 2 * KEPT_BYTES, taken > KEPT_BYTES
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


def needed_behind(module: GraphModule, stop: int) -> Needed:
    """What is needed behind node number `stop`.

    The student's own node is run again, with other weights; the teacher's stays as it is.
    """
    return Needed(_live(module, stop), _live(module, stop + 1))


def _live(module: GraphModule, first: int) -> tuple[str, ...]:
    """Names of the tensors that nodes from number `first` on read and that earlier ones compute, or the input."""
    known = {name for node in module.nodes[:first] for name in node.outputs if name} | set(module.input_names)
    read = (name for node in module.nodes[first:] for name in node.inputs)
    return tuple(dict.fromkeys(name for name in read if name in known))
