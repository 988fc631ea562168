"""Locks on folders, between processes as between threads; the system frees them when their holder dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks keeps nobody out
    fcntl = None  # type: ignore[assignment]


class HeldError(Exception):
    """Somebody else holds the folder."""


def hold(folder: Path, *, wait: bool = False) -> int | None:
    """Hold `folder` until `free` is given the number returned; None where the file system has no such locks.

    Raises:
        HeldError: somebody else holds it, and `wait` was not asked for.
        FileNotFoundError: it is not there, or its former holder took it away meanwhile.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | (0 if wait else os.O_NOFOLLOW))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if not os.path.samestat(os.fstat(handle), folder.stat()):
            raise FileNotFoundError(folder)
    except BlockingIOError:
        os.close(handle)
        raise HeldError(folder) from None
    except FileNotFoundError:
        free(handle)
        raise
    except OSError:  # a file system without locks, such as some network disks
        os.close(handle)
        return None
    except BaseException:
        free(handle)
        raise
    return handle


def free(handle: int | None) -> None:
    """End what `hold` began."""
    if handle is not None and fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would not do: a forked child may still have it open
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` while the block runs; wait for others who do."""
    handle = hold(folder, wait=True)
    try:
        yield
    finally:
        free(handle)
