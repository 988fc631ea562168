"""The three standard streams, whatever became of them: closed, full, gone, or unable to show what is written."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown


class _Forgiving(io.FileIO):
    """A stream for talk: what it cannot take is lost, and nothing else."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def prepare_streams() -> None:
    """Make stdout and stderr fit for what is coming. Streams that the caller put in their place are left alone.

    A closed stream's number is taken, or the next file opened would get it, and with it all that libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number; writing to it fails as before
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or (isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__):
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        raw = io.BufferedWriter(_Forgiving(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", line_buffering=True)


def complain(text: str) -> None:
    """Say `text` on stderr, each line printable, if anybody hears it."""
    with suppress(OSError, ValueError):
        sys.stderr.write("".join(f"{shown(line)}\n" for line in text.split("\n")))
        sys.stderr.flush()


@contextmanager
def to_stdout() -> Iterator[None]:
    """Everything that prints results to stdout stands inside.

    Raises:
        CrispError: stdout is closed or full. A reader that went away has what it wanted.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon()
    except OSError as error:
        _abandon()
        raise CrispError(
            f"The result cannot be printed: {error.strerror or error}. Look at where stdout goes."
        ) from error


def _abandon() -> None:
    """What is still buffered goes nowhere, and Python's own flush at the end finds nothing to fail at."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
