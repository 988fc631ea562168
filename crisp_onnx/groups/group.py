"""What a channel group is: the places in stored tensors that one channel occupies, and what binds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Member:
    """Where the channels of a group lie along one axis of one tensor.

    Channel `c` takes the `span` indices from `start + c * step` on; `stop` is one behind the last index of all. After a
    Flatten of (C, h, w) one channel spans h*w columns; in tensors that other channels interleave, step is over span.
    """

    tensor: str
    axis: int
    start: int
    stop: int
    step: int = 1
    span: int = 1

    def indices(self, channels: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """(n,) channel numbers -> (n * span,) indices along the axis."""
        first = self.start + np.asarray(channels, np.int64) * self.step
        return (first[:, None] + np.arange(self.span)).reshape(-1)


@dataclass(frozen=True)
class Barrier:
    """What binds channels: an operator, an input or an output of the graph, and why where that needs words."""

    kind: str
    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class ChannelGroup:
    """`width` channels that may change places with each other, each of which lives or dies in all members at once.

    `members`: stored tensors. `flows`: computed tensors that carry the channels. `producers` and `consumers`: the
    weight layers that write and read them, by node name; `passes`: the other operators they go through. `barriers`:
    why these channels must stay as they are, empty where they may be reordered. `keeps`: why none may be removed though
    they may be reordered.
    """

    width: int
    members: tuple[Member, ...]
    flows: tuple[Member, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    passes: tuple[str, ...]
    barriers: tuple[Barrier, ...]
    keeps: tuple[Barrier, ...]

    @property
    def movable(self) -> bool:
        """Whether the channels may be reordered."""
        return not self.barriers

    @property
    def removable(self) -> bool:
        """Whether channels may be removed."""
        return not self.barriers and not self.keeps
