"""Replace several files of a folder in one step: whoever looks, and whenever the process dies, sees all old or all new.

A file system renames one name at a time. So each name becomes, for the moment, a link through `.crisp-switch/now`,
which leads to the folder of the old files; one rename makes it lead to the new ones; then the links become files again.
Nothing a reader sees changes but in that one rename. A switch that was cut short is finished by `settle`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SWITCH = ".crisp-switch"


def switch(fresh: Path, folder: Path, *, gone: Iterable[str] = (), last: str = "") -> None:
    """Move every file of the folder `fresh` into `folder`, and take the names in `gone` away, in one step.

    On file systems without links the names are replaced one after the other, `last` at the end.

    Raises:
        OSError: `folder` cannot be written; it holds all old or all new files then.
    """
    settle(folder)
    names = sorted((file.name for file in fresh.iterdir()), key=lambda name: (name == last, name))
    going = [name for name in gone if name not in names]
    try:
        _through_links(fresh, folder, names, going)
    except (OSError, NotImplementedError):
        settle(folder, keep=fresh)
        _one_by_one(fresh, folder, names, going)


def settle(folder: Path, *, keep: Path | None = None) -> None:
    """Finish a switch that was cut short: every link becomes the file that it shows.

    `keep`: the folder of new files, which goes back to its place where the switch had not taken place.
    """
    place = folder / SWITCH
    if place.is_symlink() or not place.is_dir():
        return
    spare = place / "spare"
    for link in list(folder.iterdir()):
        if not link.is_symlink() or not str(link.readlink()).startswith(f"{SWITCH}/"):
            continue
        spare.unlink(missing_ok=True)
        if link.exists():
            _copy_name(link.resolve(), spare)
            spare.replace(link)
        else:
            link.unlink()
    if keep is not None and not keep.exists() and (place / "new").exists():
        (place / "new").rename(keep)
    shutil.rmtree(place)


def _through_links(fresh: Path, folder: Path, names: list[str], going: list[str]) -> None:
    place = folder / SWITCH
    old, new, now, spare = (place / part for part in ("old", "new", "now", "spare"))
    old.mkdir(parents=True)
    present = [name for name in (*names, *going) if os.path.lexists(folder / name)]
    for name in present:
        os.link(folder / name, old / name)
    now.symlink_to("old")
    fresh.rename(new)
    for name in (*names, *going):
        if name in names or name in present:
            spare.symlink_to(f"{SWITCH}/now/{name}")
            spare.replace(folder / name)
    spare.symlink_to("new")
    spare.replace(now)  # the one step
    settle(folder)


def _one_by_one(fresh: Path, folder: Path, names: list[str], going: list[str]) -> None:
    for name in names:
        if (fresh / name).exists():  # else it is in place already
            (fresh / name).replace(folder / name)
    for name in going:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        fresh.rmdir()


def _copy_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def synced(path: Path) -> None:
    """Wait until what a file or folder holds is on the disk, where the system can be asked for that."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
