"""Ctrl-C, SIGTERM and SIGHUP: heard once, as an exception, and in the end also inside code that hears nothing.

Python runs its handlers between two steps of its own. Inside ONNX Runtime there may be none for as long as a graph
takes; a thread then ends the process. What it leaves is cleared away by the next run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial

from crisp_onnx.writing import stopping

PATIENCE_S = 5.0
RESUMED = "; what was reached is kept, and the same command with --resume goes on from there"


@contextmanager
def heard() -> Iterator[None]:
    """Each of them raises in the main thread, once; where that does not happen in time, the process ends."""
    numbers = stopping()
    stop = _Stop(numbers)
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, stop) for number in numbers}
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _leave_children_alone()
    threading.Thread(target=_watch, args=(read, stop), name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():  # Python's own end is not to be interrupted either: it would be told
            signal.signal(number, signal.SIG_IGN if stop.came.is_set() else handler)
        os.close(write)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. Behind a plain KeyboardInterrupt that left code given to `exec` as text, as in the making of a dataclass,
    CPython ends `python -m` by SIGINT, whatever its exit code (`_PyRuntime.signals.unhandled_keyboard_interrupt`)."""


class _Stop:
    """The handler of the signals `numbers`. `came` is set once it was called."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = frozenset(numbers)
        self.came = threading.Event()

    def __call__(self, number: int, frame: object) -> None:
        """Raise, so that unfinished results are cleared away, which nothing more interrupts."""
        self.came.set()
        for further in self.numbers:
            signal.signal(further, _ignore)
        if number == signal.SIGINT:
            raise Interrupted
        sys.exit(128 + number)


def _ignore(number: int, frame: object) -> None:
    pass


@cache
def _leave_children_alone() -> None:
    """A signal to a forked child would otherwise be read here, from the pipe that both have."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(signal.set_wakeup_fd, -1))


def _watch(read: int, stop: _Stop) -> None:
    """End the process where a signal has come and Python does not get to hear of it."""
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            # Where others stand in for our handler (see `writing.undisturbed`), a step is being finished.
            if number[0] in stop.numbers and not stop.came.wait(PATIENCE_S) and signal.getsignal(number[0]) is stop:
                os.write(2, f"Interrupted{RESUMED if '--resume' in sys.argv else '; nothing was written'}.\n".encode())
                os._exit(128 + number[0])
