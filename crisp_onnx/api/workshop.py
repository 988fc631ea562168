"""Where results are made: a hidden folder beside their place, so that a failed run leaves nothing half-written."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from crisp_onnx.errors import CrispError

_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A hidden folder on the disk of `folder`, removed at the end whatever happens, with parents made for it.

    Raises:
        CrispError: `folder` cannot be written, found out before the long stages; or the disk is full.
    """
    made: list[Path] = []  # each stands here before it is made: an interruption may come at any moment
    try:
        try:
            bench = _home(folder, made) / f".crisp-{secrets.token_hex(4)}"
            made.append(bench)
            bench.mkdir(mode=0o700)
        except OSError as error:
            raise CrispError(
                f"Cannot write to {folder}: {error.strerror}. Choose another folder with --output."
            ) from error
        try:
            yield bench
        except OSError as error:
            where = Path(str(error.filename)) if error.filename else None
            if error.errno in _WRITE_ERRORS or where is None or bench in where.parents or folder in where.parents:
                reason = error.strerror or error
                raise CrispError(f"Cannot write to {folder}: {reason}. Free some space there.") from error
            raise CrispError(f"Cannot read {where}: {error.strerror}.") from error
        finally:
            shutil.rmtree(bench, ignore_errors=True)
    finally:
        _remove(made)


def move_into_place(bench: Path, folder: Path, *, last: str, stale: Sequence[str]) -> None:
    """Put every finished file into the folder, `last` at the end; files in `stale` that this run did not make go."""
    if folder.resolve() != bench.resolve().parent:
        folder.mkdir(exist_ok=True)
    fresh = {file.name for file in bench.iterdir()}
    for name in sorted(fresh, key=lambda name: (name == last, name)):
        (bench / name).replace(folder / name)
    for name in set(stale) - fresh:
        (folder / name).unlink(missing_ok=True)


def _home(folder: Path, made: list[Path]) -> Path:
    """The folder itself where it exists, as it may be a mounted disk of its own; else its parent, made if need be."""
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder")
    parent = folder.absolute().parent
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    for path in reversed(missing):
        made.append(path)
        path.mkdir()
    return parent


def _remove(made: Sequence[Path]) -> None:
    """Remove folders that hold nothing after all."""
    for path in reversed(made):
        with suppress(OSError):  # it was never made, or it holds the results
            path.rmdir()
