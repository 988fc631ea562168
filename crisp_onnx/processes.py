"""Work that several processes share under `torchrun`: each computes its share of images, classes or batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed

from crisp_onnx.reading import border

Totals = Mapping[str, Tensor]
GONE = "Another process of torchrun cannot be reached"


@dataclass(frozen=True)
class Processes:
    """`rank` of `count` processes; without `torchrun`, the only one."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: int) -> slice:
        """This process's items of a row of so many: every process has as many, or one more."""
        return slice(self.rank * items // self.count, (self.rank + 1) * items // self.count)

    def share_of_batches(self, order: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
        """This process's places in whole batches of `size`, batch after batch."""
        if self.count == 1:
            return order
        own: npt.NDArray[np.int64] = order.reshape(-1, size)[:, self.share(size)].reshape(-1)
        return own

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, in place of each of them."""
        if self.count > 1:
            with border(GONE):
                distributed.all_reduce(tensor)
        return tensor

    def added(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, through which gradients flow back to all of them."""
        return tensor if self.count == 1 else _Added.apply(tensor)  # type: ignore[no-untyped-call]

    def spread(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the first process's tensors over those of the others."""
        for tensor in tensors.values() if self.count > 1 else ():
            held = tensor.detach().contiguous()
            with border(GONE):
                distributed.broadcast(held.view(torch.uint8) if held.dtype == torch.bool else held, 0)
            with torch.no_grad():
                tensor.copy_(held)

    def told(self, value: Any) -> Any:
        """A value that JSON holds, as the first process has it."""
        if self.count == 1:
            return value
        text = torch.tensor(list(json.dumps(value if self.first else None).encode()), dtype=torch.uint8)
        length = torch.tensor([len(text)])
        self.spread({"length": length})
        if not self.first:
            text = torch.zeros(int(length), dtype=torch.uint8)
        self.spread({"text": text})
        return json.loads(bytes(text.tolist()))

    def shared(
        self, keys: Sequence[int], shapes: Mapping[str, tuple[int, ...]], compute: Callable[[int], Totals]
    ) -> Iterator[tuple[int, Totals]]:
        """What `compute` gives for each key, in their order, to the first process; nothing to the others.

        `shapes`: of its float32 tensors, by name. The keys go round, so that the processes work side by side.

        Raises:
            CrispError: another process is gone.
        """
        for place, key in enumerate(keys):
            owner = place % self.count
            if owner == self.rank:
                totals = compute(key)
                if self.first:
                    yield key, totals
                    continue
                for name in shapes:
                    with border("The first process cannot be reached"):
                        distributed.send(totals[name].detach().cpu().float().contiguous(), 0)
            elif self.first:
                received = {name: torch.empty(shape) for name, shape in shapes.items()}
                for tensor in received.values():
                    with border(f"Process {owner} cannot be reached"):
                        distributed.recv(tensor, owner)
                yield key, received


ALONE = Processes()


class _Added(torch.autograd.Function):
    """A sum over processes: what each adds to it gets the gradients of all that read it."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def started_by_torchrun() -> Processes:
    """What torchrun says of this process, before any connection."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes of this run, connected for as long as the block lasts.

    Raises:
        CrispError: they do not find each other.
    """
    if started_by_torchrun().count == 1 or not distributed.is_available():
        yield ALONE
        return
    with border("The processes of torchrun do not find each other"):
        distributed.init_process_group("gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
