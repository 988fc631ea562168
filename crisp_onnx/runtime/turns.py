"""Take turns: the one way in which sides are compared here. Only the side whose turn it is has a session.

The threads of a session that is alive spin on after a run, for tens of milliseconds, on the core that the other side
needs. Told to sleep instead, they must be woken in every run, which takes longer than many a layer. So a turn opens its
session, warms it up, times it and ends it, and each side has the time that it has alone; the figures behind that stand
in docs/runtime.md. Turns are short, and a ratio is taken between neighbours: a shared machine's speed drifts by more
than the difference one wants to see.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

ROUNDS, FEWEST_ROUNDS = 10, 3
WARMUP, WARMUP_SHARE = 2, 0.2
FEWEST_RUNS, MOST_RUNS = 3, 400

Times = npt.NDArray[np.float64]
Run = Callable[[], object]
T = TypeVar("T")
Turn = Callable[[float], T]
"""One turn of a side, of about so many seconds. It opens what it needs, and nothing of it is alive afterwards."""


def clock_of(threads: int) -> Callable[[], float]:
    """The clock, in seconds, that runs of so many threads are timed by.

    One thread is timed by what its processor spends: waiting while other programs have the core is no part of a run,
    and hits the longer side more, so that a ratio of such times is wrong and yet steady. Windows counts processor time
    in sixtieths of a second.
    """
    return time.process_time if threads == 1 and sys.platform != "win32" else time.perf_counter


def take_turns(
    sides: Sequence[Turn[T]],
    *,
    budget_s: float,
    rounds: int = ROUNDS,
    fewest: int = FEWEST_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[T, ...]]:
    """What the sides' turns return: a tuple a round, in the order of `sides`.

    Ends after `rounds`, or when `budget_s` seconds a side are spent, but not under `fewest` rounds.
    """
    end = clock() + budget_s * len(sides)
    found: list[tuple[T, ...]] = []
    for number in range(rounds):
        if number >= fewest and clock() > end:
            break
        # The order changes with every round, so that a steady drift favours no side.
        order = list(range(len(sides)))[:: -1 if number % 2 else 1]
        results = {side: sides[side](budget_s / rounds) for side in order}
        found.append(tuple(results[side] for side in range(len(sides))))
    return found


def timed(opening: Callable[[], Run], *, threads: int) -> Turn[Times]:
    """The turn of a side that `opening` opens: milliseconds of every run after the warm-up.

    `opening` returns one run of a session with so many threads that nothing else holds.
    """

    def turn(seconds: float) -> Times:
        return timed_runs(opening(), seconds, clock=clock_of(threads))

    return turn


def timed_runs(run: Run, seconds: float, *, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Milliseconds of every run: as many as fit into `seconds` after a warm-up, but not under three."""
    warm_up(run, seconds)
    found: list[float] = []
    end = time.perf_counter() + seconds * (1 - WARMUP_SHARE)
    while len(found) < FEWEST_RUNS or (len(found) < MOST_RUNS and time.perf_counter() < end):
        start = clock()
        run()
        found.append((clock() - start) * 1e3)
    return np.array(found)


def warm_up(run: Run, seconds: float) -> int:
    """Run twice, and on for a fifth of the turn: caches, arena and threads settle. The number of runs made."""
    end = time.perf_counter() + seconds * WARMUP_SHARE
    count = 0
    while count < WARMUP or (count < MOST_RUNS and time.perf_counter() < end):
        run()
        count += 1
    return count
