"""Where results are made: a hidden folder in or beside their own, so that a failed run leaves nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.model.write import WEIGHTS
from crisp_onnx.reading import require_utf8, shown
from crisp_onnx.writing import HeldError, free, hidden_name, hold, locked, require_possible, settle, switch, undisturbed

_HIDDEN_NAME = re.compile(r"\.crisp-[0-9a-f]{8}")
_STATE = ".state"
ELSEWHERE = "Choose another folder with --output."
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextmanager
def workshop(folder: Path, *, resume: bool = False) -> Iterator[Path]:
    """A hidden folder on the disk of `folder`, removed at the end whatever happens, with parents made for it.

    One run at a time: others are kept out of `folder` until the end, and what killed ones left is cleared away, but for
    the state of a run that is to be taken up again (`resume`). That stays too where the block is left by an exception.

    Raises:
        CrispError: `folder` cannot be written or another run writes to it, found out before the long stages; or the
            disk is full.
    """
    name = shown(str(folder))
    folder = folder.resolve() if folder.name == ".." else folder.absolute()
    require_utf8(folder, ELSEWHERE)
    require_possible(folder, ELSEWHERE)
    made: list[Path] = []  # each stands here before it is made: an interruption may come at any moment
    try:
        try:
            hidden, handle = _opened(folder, made)
        except HeldError:
            raise CrispError(
                f"Another run is writing to {name}. Wait until it has ended, or choose another folder with --output."
            ) from None
        except OSError as error:
            raise CrispError(f"Cannot write to {name}: {error.strerror}. {ELSEWHERE}") from error
        kept = None
        try:
            results = hidden if hidden.parent == folder else hidden / folder.name
            kept = _found_state(results, folder) if resume and handle is not None else None
            if handle is not None:
                _clear(hidden, folder, keep=kept)
            results.mkdir(exist_ok=True)
            yield results  # without its hidden part this path is that of the finished file
            kept = None
        except OSError as error:
            raise CrispError(_explained(error, results, hidden, folder, name)) from error
        finally:
            _empty(hidden, keep=kept)
            free(handle)
    finally:
        _remove(made)


def _found_state(results: Path, folder: Path) -> Path:
    """The state of a run that is to be taken up again, brought here where that began beside a folder not there yet."""
    kept = state_folder(results)
    beside = folder.parent / _hidden_name(folder.name) / f"{_hidden_name(folder.name)}{_STATE}"
    if not kept.is_dir() and beside.is_dir():
        with suppress(OSError):
            beside.rename(kept)
    return kept


def _explained(error: OSError, results: Path, hidden: Path, folder: Path, name: str) -> str:
    """What became of a run whose system refused something: it cannot write here, or cannot read elsewhere."""
    where = Path(str(error.filename)) if error.filename else None
    writes = where is None or hidden in where.parents or folder in where.parents
    if error.errno not in _WRITE_ERRORS and not writes:
        return f"Cannot read {shown(str(where))}: {error.strerror}."
    if not results.is_dir():
        return (
            f"Cannot write to {name}: the hidden folder {shown(str(results))} was removed while the run went on. "
            "Start again, and leave it there."
        )
    return f"Cannot write to {name}: {error.strerror or error}. Free some space there."


def state_folder(bench: Path) -> Path:
    """Where a run that makes its results in `bench` keeps what it has come to; not there until it makes it."""
    if _HIDDEN_NAME.fullmatch(bench.name):
        return bench / _STATE
    return bench.with_name(f"{bench.parent.name}{_STATE}")  # the bench's own name may be as long as names can be


def move_into_place(bench: Path, folder: Path, *, last: str, stale: Sequence[str] = ()) -> tuple[str, ...]:
    """Put every finished file into the folder in one step, and take away those in `stale` that this run did not make.

    Weights files (`.data`), whose names tell their content, come before that step and go after it. Returns the names
    of the finished files. `last`: the file that the others are about. The state of the run is of no more use, and goes.

    Raises:
        OSError: the folder cannot be written; it holds what it held before.
    """
    with undisturbed():
        shutil.rmtree(state_folder(bench), ignore_errors=True)
        fresh = tuple(sorted(file.name for file in bench.iterdir()))
        if not _moved_whole(bench, folder):
            with locked(folder):
                _switched(bench, folder, fresh, [name for name in stale if name not in fresh], last)
    return fresh


def _opened(folder: Path, made: list[Path]) -> tuple[Path, int | None]:
    """The hidden folder, and what holds it: the folder itself where it exists, as it may be a mounted disk of its own.

    Its name follows from that of `folder`, so that two runs meet there.

    Raises:
        HeldError: another run is in there.
        OSError: it cannot be made.
    """
    if not folder.is_dir() and os.path.lexists(folder):
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder")
    parent = folder if folder.is_dir() else folder.parent
    for path in reversed([path for path in (parent, *parent.parents) if not path.exists()]):
        made.append(path)
        with suppress(FileExistsError):  # another run was faster
            path.mkdir()
    beside = folder.parent / _hidden_name(folder.name)
    hidden = beside if parent != folder else folder / _hidden_name("")
    if hidden != beside and beside.is_dir():
        with suppress(OSError):
            free(hold(beside))  # a run that began when there was no folder yet
    made.append(hidden)
    handle = _held(hidden)
    if handle is not None and hidden.stat().st_uid != os.geteuid():  # another user's, who could change what is in it
        free(handle)
        handle = None
    if handle is None:  # without locks nobody knows who is alive: no meeting, and nothing is cleared
        hidden = parent / hidden_name()
        made.append(hidden)
        hidden.mkdir(mode=0o700)
    return hidden, handle


def _held(hidden: Path) -> int | None:
    while True:
        with suppress(FileExistsError):
            hidden.mkdir(mode=0o700)
        try:
            return hold(hidden)
        except FileNotFoundError:  # its former holder took it away between both steps
            continue


def _hidden_name(name: str) -> str:
    return f".crisp-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def _clear(hidden: Path, folder: Path, *, keep: Path | None) -> None:
    """Away with what runs that were killed have left: in the hidden folder, in others like it, and of a switch."""
    for path in hidden.iterdir():
        if path != keep:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if hidden.parent != folder:
        return
    with locked(folder):
        settle(folder)
    for path in (folder.parent / _hidden_name(folder.name), *folder.iterdir()):
        if path != hidden and _HIDDEN_NAME.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
            with suppress(OSError, HeldError):
                handle = hold(path)
                shutil.rmtree(path, ignore_errors=True)
                free(handle)


def _empty(hidden: Path, *, keep: Path | None) -> None:
    """Remove the hidden folder; only what is in it beside `keep`, where that is there."""
    if keep is None or not keep.is_dir():
        shutil.rmtree(hidden, ignore_errors=True)
        return
    for path in hidden.iterdir():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _moved_whole(bench: Path, folder: Path) -> bool:
    """Where no folder stands yet, the finished one is simply given its name."""
    if os.path.lexists(folder):
        return False
    umask = os.umask(0)
    os.umask(umask)
    bench.chmod(0o777 & ~umask)
    try:
        bench.rename(folder)
    except OSError:  # somebody made one meanwhile
        return False
    return True


def _switched(bench: Path, folder: Path, fresh: Sequence[str], gone: Sequence[str], last: str) -> None:
    weights = [name for name in fresh if name.endswith(WEIGHTS)]
    new = [name for name in weights if not os.path.lexists(folder / name)]
    bench.chmod(folder.stat().st_mode & 0o777)
    try:
        for name in weights:
            (bench / name).replace(folder / name)
        switch(bench, folder, gone=[name for name in gone if not name.endswith(WEIGHTS)], last=last)
    except OSError:
        for name in new:
            (folder / name).unlink(missing_ok=True)
        raise
    for name in gone:
        (folder / name).unlink(missing_ok=True)


def _remove(made: Sequence[Path]) -> None:
    """Remove folders that hold nothing after all."""
    for path in reversed(made):
        with suppress(OSError):  # it was never made, or it holds the results
            path.rmdir()
