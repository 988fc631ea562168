"""Read CIFAR-10 and CIFAR-100 as they are published: a folder or .tar.gz of Python pickles."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from crisp_onnx.data.arrays import ArrayStore, spooled
from crisp_onnx.data.labelled import LabelledArrays, checked_labels
from crisp_onnx.data.tally import listed
from crisp_onnx.data.unpickle import read_pickle
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown

SIDE = 32
SPLITS = ("train", "test")
GZIP = b"\x1f\x8b"
# The largest pickle of the two data sets has 155 MB, and an archive has eight.
MAX_PICKLE_BYTES, MAX_MEMBERS, MAX_ARCHIVE_BYTES = 256 << 20, 1_000, 1 << 30
LONGEST_NAME = 1_000
NAMED = 8
REMEDY = "Fetch it again."


@dataclass(frozen=True)
class _Form:
    """File names and keys of one of the two data sets."""

    meta: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    names: str


CIFAR10 = _Form("batches.meta", tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",), "labels", "label_names")
CIFAR100 = _Form("meta", ("train",), ("test",), "fine_labels", "fine_label_names")
Reader = Callable[[str], dict[str, Any]]


def find_cifar(path: Path) -> tuple[Path, str] | None:
    """(archive or folder, "train" or "test") when `path` is a CIFAR data set or `train` or `test` of one, else None."""
    for root, split in ((path, "train"), (path.parent, path.name)):
        if split in SPLITS and (_is_archive(root) or _form_of_folder(root) is not None):
            return root, split
    return None


def read_cifar(root: Path, split: str) -> LabelledArrays:
    """The images of `split`, held in a temporary file.

    Raises:
        CrispError: the archive is damaged, incomplete, or holds more than arrays and plain containers.
    """
    with _reader(root) as (form, read):
        names = _names(read(form.meta), form, root)
        labels: list[int] = []
        array = spooled(
            _pixels(form, form.train if split == "train" else form.test, read, labels, root),
            np.dtype(np.uint8),
            (SIDE, SIDE, 3),
        )
    where = f"{split} of {shown(str(root))}"
    checked = checked_labels(np.array(labels, np.int64), len(array), names, where)
    return LabelledArrays(ArrayStore(array, where), np.arange(len(array)), checked, names)


def cifar_names(root: Path) -> tuple[str, ...]:
    """The class names of the data set, in the order of its labels."""
    with _reader(root) as (form, read):
        return _names(read(form.meta), form, root)


def _pixels(form: _Form, files: tuple[str, ...], read: Reader, labels: list[int], root: Path) -> Iterator[Any]:
    for file in files:
        content = read(file)
        data = _value(content, "data", root)
        form_of = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * SIDE * SIDE,):
            raise CrispError(f"{file} of {shown(str(root))} holds {form_of}, not an array of (n, 3072) bytes.")
        labels.extend(_numbers(_value(content, form.labels, root), f"{form.labels} in {file} of {shown(str(root))}"))
        yield data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _numbers(value: object, where: str) -> list[int]:
    """A plain list of small whole numbers, checked one by one: nested lists would multiply as an array."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        value = value.tolist()
    if not isinstance(value, list) or not all(type(number) is int and abs(number) < 1 << 31 for number in value):
        raise CrispError(f"{where} are no list of whole numbers. {REMEDY}")
    return value


def _names(content: dict[str, Any], form: _Form, root: Path) -> tuple[str, ...]:
    value = _value(content, form.names, root)
    found = value if isinstance(value, list) else []
    words = [word.decode("latin1") if isinstance(word, bytes) else word for word in found]
    if not words or not all(isinstance(word, str) and len(word) <= LONGEST_NAME for word in words):
        raise CrispError(f"{form.names} of {shown(str(root))} are no list of names. {REMEDY}")
    return tuple(words)


def _value(content: dict[str, Any], key: str, root: Path) -> Any:
    if key not in content:
        has = listed(sorted(content)[:NAMED], len(content)) or "nothing"
        raise CrispError(f"{shown(str(root))} lacks {key!r} (it has {has}). {REMEDY}")
    return content[key]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".tar.gz", ".tgz", ".tar")) and path.is_file()


def _form_of_folder(folder: Path) -> _Form | None:
    return next((form for form in (CIFAR10, CIFAR100) if (folder / form.meta).is_file()), None)


@contextmanager
def _reader(root: Path) -> Iterator[tuple[_Form, Reader]]:
    """Yield the form of the data set and a function that reads one of its pickles by name."""
    if _is_archive(root):
        with _archive(root) as (form, read):
            yield form, read
        return
    form_of_folder = _form_of_folder(root)
    if form_of_folder is None:
        raise CrispError(f"{root} holds neither {CIFAR10.meta} nor {CIFAR100.meta}; it is no CIFAR folder.")

    def read_file(name: str) -> dict[str, Any]:
        where = shown(str(root / name))
        with border(f"{where} cannot be read", "Unpack it again."):
            if not (root / name).is_file():
                raise FileNotFoundError("no such file")
            with (root / name).open("rb") as file:
                content = _whole(file)
        return read_pickle(content, where)

    yield form_of_folder, read_file


@contextmanager
def _archive(root: Path) -> Iterator[tuple[_Form, Reader]]:
    unreadable = f"{shown(str(root))} is not a readable archive"
    with root.open("rb") as file:
        with border(unreadable, REMEDY):
            packed = file.read(2) == GZIP
            file.seek(0)
            bounded = cast("IO[bytes]", _Bounded(gzip.GzipFile(fileobj=file) if packed else file))
            archive = tarfile.open(fileobj=bounded, mode="r:")  # noqa: SIM115
            members = _members(archive)
        found = next((form for form in (CIFAR10, CIFAR100) if form.meta in members), None)
        if found is None:
            raise CrispError(
                f"{root} holds neither {CIFAR10.meta} nor {CIFAR100.meta}; of archives only the Python versions of "
                "CIFAR-10 and CIFAR-100 are read. Unpack other image archives into class folders."
            )

        def read_member(name: str) -> dict[str, Any]:
            if name not in members:
                raise CrispError(f"{shown(str(root))} holds no {name}. {REMEDY}")
            with border(unreadable, REMEDY):
                inner = archive.extractfile(members[name])
                content = b"" if inner is None else _whole(inner)
            return read_pickle(content, f"{name} of {shown(str(root))}")

        yield found, read_member


def _members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The plain files of an archive by their last name; links are none."""
    found = {}
    for number, member in enumerate(archive):
        if number >= MAX_MEMBERS:
            raise ValueError(f"it holds more than {MAX_MEMBERS} files")
        if member.isreg():
            found[Path(member.name).name] = member
    return found


def _whole(file: IO[bytes]) -> bytes:
    content = file.read(MAX_PICKLE_BYTES + 1)
    if len(content) > MAX_PICKLE_BYTES:
        raise ValueError(f"it is larger than {MAX_PICKLE_BYTES >> 20} MiB")
    return content


class _Bounded:
    """What `tarfile` asks of a file, refusing sizes that no CIFAR archive has, whatever its headers declare."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_PICKLE_BYTES + tarfile.RECORDSIZE:
            raise ValueError(f"it declares a part of {size} bytes")
        content = self._file.read(size)
        if self._file.tell() > MAX_ARCHIVE_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_ARCHIVE_BYTES >> 20} MiB")
        return content

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 0 and position > MAX_ARCHIVE_BYTES:
            raise ValueError(f"it declares more than {MAX_ARCHIVE_BYTES >> 20} MiB")
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()
