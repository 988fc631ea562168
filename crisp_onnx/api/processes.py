"""Work that several processes share under `torchrun`: each computes its share, and the first one gets all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from crisp_onnx.reading import border

Totals = Mapping[str, Tensor]


@dataclass(frozen=True)
class Processes:
    """`rank` of `count` processes; without `torchrun`, the only one."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

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


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes of this run, connected for as long as the block lasts.

    Raises:
        CrispError: they do not find each other.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or not distributed.is_available():
        yield Processes()
        return
    with border("The processes of torchrun do not find each other"):
        distributed.init_process_group("gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
