"""`Keeper`: where a run puts what it has come to, and finds what a run that was killed had come to."""

from __future__ import annotations

from typing import Protocol

from crisp_onnx.recover.state import State


class Keeper(Protocol):
    """States by the name of a part of the road; a later one takes the place of an earlier one, whole or not at all."""

    def get(self, part: str) -> State | None:
        """What the run that is taken up had put under that name; None where it had not come so far.

        Raises:
            CrispError: it cannot be read.
        """

    def put(self, part: str, state: State) -> None:
        """Keep a state."""

    @property
    def due(self) -> bool:
        """Whether the last state is so old that another is worth its time."""


class NoKeeper:
    """Keeps nothing."""

    due = False

    def get(self, part: str) -> State | None:
        return None

    def put(self, part: str, state: State) -> None:
        pass
