"""Read `.npz` data sets (`x`, `y`, `classes`) without loading `x`: its rows are read when they are asked for."""

from __future__ import annotations

import math
import os
import shutil
import struct
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from crisp_onnx.data.arrays import checked_store, spooled, stored, temporary, write
from crisp_onnx.data.file_state import state_of
from crisp_onnx.data.labelled import LabelledArrays, PixelArrays, check_form, checked_labels
from crisp_onnx.data.labels import require_few
from crisp_onnx.data.rows import FileRows, in_rows
from crisp_onnx.data.tally import Tally
from crisp_onnx.data.values import AsIs, ValueStore, finite_rows
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

MAX_NAME_BYTES = 64 << 20
# Pixels that shrink more than this are no photographs; what unpacks to less than the second number does no harm.
MAX_RATIO, HARMLESS_BYTES = 200, 1 << 30
COPIED_BYTES = 1 << 20
CHANNELS = (1, 3, 4)
KNOWN = ("x", "y", "classes")
NAMED = 8
REMEDY = "Save or copy it again."


@dataclass(frozen=True)
class Member:
    """One array of an archive, by its header: its values begin `header_bytes` into the member."""

    name: str
    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    header_bytes: int


def read_npz(path: Path, form: object = None, *, labelled: bool = True) -> LabelledArrays:
    """Open `x`, `y` (n,) integers, and `classes` (k,) names where present.

    `x` are pixels, uint8 (n, h, w[, c]) or (n, c, h, w), or with the form `AsIs` numbers in rows of its shape. An
    archive that holds nothing but `x` has no labels, and where it is not to be read as `labelled`, only `x` matters.

    Raises:
        CrispError: the file is no archive or damaged, an array is missing, pickled, of the wrong type or shape, or
            unpacks to more than there can be any use for.
    """
    where = shown(str(path))
    with _archive(path) as archive:
        members = _members(archive, path)
        x = members["x"]
        if not labelled:
            members = {"x": x}
        if not x.shape:
            raise CrispError(f"x of {where} is a single number. Save an array of images.")
        if "y" in members:
            check_form(members["y"].dtype, members["y"].shape, x.shape[0], where)
        names = _names(archive, members["classes"], path) if "classes" in members else None
        labels = _values(archive, members["y"], path) if "y" in members else None
        found = None if labels is None else checked_labels(labels[:], x.shape[0], names, where)
        values = _values(archive, x, path)
    if not isinstance(form, AsIs):
        return LabelledArrays(checked_store(values, f"x of {where}"), np.arange(len(values)), found, names)
    tally = Tally()
    rows = finite_rows(values, form.dtype, f"x of {where}", tally)
    kept = None if found is None else found[rows]
    return LabelledArrays(ValueStore(values, f"x of {where}"), rows, kept, names, tally.sentences())


def read_pixel_npz(path: Path, form: object) -> PixelArrays:
    """Open `x` as `read_npz` does, `y` (n, h, w) with a label for each pixel of it, and `classes` where present.

    Raises:
        CrispError: as `read_npz`, or `y` does not hold whole numbers for the pixels of `x`.
    """
    where = shown(str(path))
    with _archive(path) as archive:
        members = _members(archive, path)
        x = members["x"]
        if len(x.shape) < 3:
            raise CrispError(f"x of {where} has the shape {x.shape}, which holds no images. Save an array of images.")
        if "y" in members:
            _check_pixels(members["y"], _pixel_shapes(x.shape, isinstance(form, AsIs)), where)
        names = _names(archive, members["classes"], path) if "classes" in members else None
        labels = _values(archive, members["y"], path) if "y" in members else None
        values = _values(archive, x, path)
    if not isinstance(form, AsIs):
        return PixelArrays(checked_store(values, f"x of {where}"), np.arange(len(values)), labels, names)
    tally = Tally()
    rows = finite_rows(values, form.dtype, f"x of {where}", tally)
    return PixelArrays(ValueStore(values, f"x of {where}"), rows, labels, names, tally.sentences())


def _pixel_shapes(shape: tuple[int, ...], values: bool) -> tuple[tuple[int, ...], ...]:
    """The shapes that labels of the pixels in x (n, h, w[, c]) or (n, c, h, w) may have.

    `values`: nothing is known of what the axes mean.
    """
    last, first = shape[:3], (shape[0], *shape[2:])
    if len(shape) == 3:
        return (last,)
    return (last, first) if values else (last,) if shape[3] in CHANNELS else (first,)


def _check_pixels(y: Member, wanted: tuple[tuple[int, ...], ...], where: str) -> None:
    if y.dtype.kind not in "iub":
        raise CrispError(f"y of {where} holds {y.dtype} values. Give whole numbers, the output of each pixel.")
    if y.shape not in wanted:
        shapes = " or ".join(map(str, wanted))
        raise CrispError(
            f"y of {where} has the shape {y.shape}, but x has pixels in the shape {shapes}. Save y as that, a label "
            "for each pixel."
        )


def npz_names(path: Path) -> tuple[str, ...] | None:
    """The class names in an `.npz`, None where it has none."""
    with _archive(path) as archive:
        members = _members(archive, path)
        return _names(archive, members["classes"], path) if "classes" in members else None


def npz_rows(path: Path) -> Member:
    """What the header of `x` says."""
    with _archive(path) as archive:
        return _members(archive, path)["x"]


def _archive(path: Path) -> zipfile.ZipFile:
    with border(f"{shown(str(path))} is not a readable .npz archive", REMEDY):
        return zipfile.ZipFile(path)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, Member]:
    """`x`, and `y` and `classes` where there are such, by name. Where `x` is alone there are no labels."""
    present = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [name for name in ("x", "y") if name not in present]
    if missing and set(present) != {"x"}:
        listed = ", ".join(map(shown, sorted(present)[:NAMED])) or "nothing"
        raise CrispError(
            f"{shown(str(path))} holds no array {missing[0]!r} (it holds {listed}). Save the images as x and their "
            "labels as y."
        )
    found = {}
    for name in KNOWN:
        if name in present:
            _require_numpys_way(present[name], _where(name, path))
            with border(_where(name, path) + " cannot be read", REMEDY), archive.open(present[name]) as file:
                found[name] = _member(file, name, present[name], path)
    return found


def _require_numpys_way(info: zipfile.ZipInfo, where: str) -> None:
    """Other packings are unpacked whole, whatever they come to, when their first byte is asked for."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CrispError(
            f"{where} is packed in a way that numpy has no writer for. Save it with np.savez or np.savez_compressed."
        )


def _member(file: IO[bytes], name: str, info: zipfile.ZipInfo, path: Path) -> Member:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    where = _where(name, path)
    if dtype.hasobject:
        raise CrispError(
            f"{where} is pickled, and pickled data can run programs, so it is not read. Save numbers or fixed-length "
            "strings."
        )
    header_bytes = file.tell()
    if any(side < 0 for side in shape) or info.file_size != header_bytes + dtype.itemsize * math.prod(shape):
        raise CrispError(f"{where} is shorter or longer than its header says. {REMEDY}")
    return Member(name, info, dtype, fortran, tuple(map(int, shape)), header_bytes)


def _values(archive: zipfile.ZipFile, member: Member, path: Path) -> FileRows:
    """The values of an array: in their file, or a temporary one where they are packed or lie column after column."""
    where = _where(member.name, path)
    with border(f"{where} cannot be read", REMEDY):
        if member.info.compress_type == zipfile.ZIP_STORED:
            file = _same_file(archive)
            start = _start(file, member.info) + member.header_bytes
            found = FileRows(file, start, member.dtype, member.shape, where, state_of(file.fileno()))
        else:
            _check_room(member, path)
            unpacked = temporary()
            with archive.open(member.info) as packed:
                packed.read(member.header_bytes)
                while chunk := packed.read(COPIED_BYTES):
                    write(unpacked, chunk)
            found = stored(unpacked, member.dtype, member.shape)
        if member.fortran and len(member.shape) > 1 and 0 not in member.shape:
            found = spooled(in_rows(found), member.dtype, member.shape[1:])
    return found


def _same_file(archive: zipfile.ZipFile) -> IO[bytes]:
    """The file that is open as `archive`, to stay open after it, whatever has its name by then."""
    assert archive.fp is not None
    return os.fdopen(os.dup(archive.fp.fileno()), "rb", buffering=0)


def _check_room(member: Member, path: Path) -> None:
    """Refuse what would fill the disk of temporary files.

    Raises:
        CrispError: the array unpacks to far more than data would, or to more than is free.
    """
    packed, size = min(member.info.compress_size, path.stat().st_size), member.info.file_size
    said = f"{_where(member.name, path)} unpacks from {packed >> 10} KiB to {-(-size >> 10)} KiB"
    if size > HARMLESS_BYTES and size > MAX_RATIO * packed:
        raise CrispError(f"{said}, which is no data. {REMEDY}")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise CrispError(f"{said}, but {tempfile.gettempdir()} has {free >> 10} KiB free. Make room or set TMPDIR.")


def _where(name: str, path: Path) -> str:
    return f"Array {name!r} of {shown(str(path))}"


def _names(archive: zipfile.ZipFile, member: Member, path: Path) -> tuple[str, ...]:
    where = f"classes of {shown(str(path))}"
    if member.dtype.kind not in "US" or len(member.shape) != 1:
        raise CrispError(f"{where} holds {member.dtype} of shape {member.shape}. Save a list of strings.")
    require_few(member.shape[0], where)
    if member.info.file_size > MAX_NAME_BYTES:
        raise CrispError(
            f"{where} takes {member.info.file_size >> 20} MiB, too much for names. Save a list of strings."
        )
    values = _values(archive, member, path)
    with border(f"{where} cannot be read", "Save a list of strings."):
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in values[:].tolist())


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: its local header has its own lengths of name and extra field."""
    header = os.pread(file.fileno(), 30, info.header_offset)
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)
