"""Read `.npz` data sets (`x`, `y`, `classes`) without loading `x`: members are mapped, packed ones unpacked to disk."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.arrays import ArrayStore, checked_store, temporary
from crisp_onnx.data.images import Indices
from crisp_onnx.errors import CrispError

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """Images with a label each (n,), which counts in `names` where there are names, else in the model's outputs."""

    store: ArrayStore
    labels: Indices
    names: tuple[str, ...] | None


def read_npz(path: Path) -> LabelledArrays:
    """Open `x` uint8 (n, h, w[, c]) or (n, c, h, w), `y` (n,) integers, and `classes` (k,) names where present.

    Raises:
        CrispError: the file is no archive or damaged, an array is missing, pickled, or of the wrong type or shape.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
            for name in ("x", "y"):
                if name not in present:
                    raise CrispError(
                        f"{path} holds no array {name!r} (it holds {', '.join(sorted(present)) or 'nothing'}). "
                        "Save the images as x and their labels as y."
                    )
            store = checked_store(_member(archive, "x", path), f"x of {path}")
            labels = np.array(_member(archive, "y", path))
            names = _names(np.array(_member(archive, "classes", path)), path) if "classes" in present else None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, ValueError) as error:
        raise CrispError(f"{path} is not a readable .npz archive: {error}. Save or copy it again.") from error
    return LabelledArrays(store, checked_labels(labels, len(store.array), names, str(path)), names)


def checked_labels(labels: Array, count: int, names: tuple[str, ...] | None, where: str) -> Indices:
    """Labels as int64 (n,).

    Raises:
        CrispError: they are not whole numbers, not one an image, or outside of `names`.
    """
    if labels.dtype.kind not in "iu" or labels.size != len(labels.reshape(-1)) or labels.ndim not in (1, 2):
        raise CrispError(f"y of {where} holds {labels.dtype} of shape {labels.shape}. Give one whole number an image.")
    if labels.size != count:
        raise CrispError(f"{where} has {count} images but {labels.size} labels. Save one label an image.")
    flat = labels.reshape(-1).astype(np.int64)
    if names is not None and count and not 0 <= flat.min() <= flat.max() < len(names):
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise CrispError(f"y of {where} holds the label {wrong}, but there are {len(names)} class names.")
    return flat


def _names(names: Array, path: Path) -> tuple[str, ...]:
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise CrispError(f"classes of {path} holds {names.dtype} of shape {names.shape}. Save a list of strings.")
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    """One array of the archive, mapped."""
    info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    with archive.open(info) as member:
        dtype, fortran, shape = _header(member, name, path)
        header_bytes = member.tell()
        if info.file_size != header_bytes + dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise CrispError(f"Array {name!r} of {path} is shorter or longer than its header says. Save it again.")
        if 0 in shape:
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        if info.compress_type == zipfile.ZIP_STORED:
            start = _start(path, info) + header_bytes
            return np.memmap(path, dtype, "r", start, shape, order)  # type: ignore[call-overload,no-any-return]
        unpacked = temporary()
        shutil.copyfileobj(member, unpacked, 1 << 20)
        unpacked.flush()
        return np.memmap(unpacked, dtype, "r", 0, shape, order)  # type: ignore[call-overload,no-any-return]


def _header(member: IO[bytes], name: str, path: Path) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
    except ValueError as error:
        raise CrispError(f"Array {name!r} of {path} has no readable header: {error}. Save it again.") from error
    if dtype.hasobject:
        raise CrispError(
            f"Array {name!r} of {path} is pickled, and pickled data can run programs, so it is not read. "
            "Save numbers or fixed-length strings."
        )
    return dtype, fortran, shape


def _start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: its local header has its own lengths of name and extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)
