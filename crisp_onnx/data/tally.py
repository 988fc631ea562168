"""What a source of images leaves out, counted by reason, with the first names of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from crisp_onnx.reading import shown

NAMED = 3


class Reason(NamedTuple):
    """Why something is left out, as a noun for one and for several; `hint` says what to do about it."""

    one: str
    several: str
    hint: str = ""


class Tally:
    """Counts by reason, in the order in which the reasons first came up."""

    def __init__(self) -> None:
        self._counts: dict[Reason, int] = {}
        self._names: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, name: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(name)

    def sentences(self) -> tuple[str, ...]:
        """One phrase a reason: "2 broken links (a/x.png, b/y.png)", with its hint behind a colon."""
        return tuple(
            f"{count} {reason.one if count == 1 else reason.several} ({listed(self._names[reason], count)})"
            + (f": {reason.hint}" if reason.hint else "")
            for reason, count in self._counts.items()
        )


def listed(names: Iterable[str], count: int) -> str:
    """The first names of `count`, printable: "a, b, c, ..."."""
    first = [shown(name) for name in names]
    return ", ".join(first) + (", ..." if count > len(first) else "")
