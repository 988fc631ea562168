"""Read CIFAR-10 and CIFAR-100 as they are published: a folder or .tar.gz of Python pickles."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crisp_onnx.data.arrays import ArrayStore, spooled
from crisp_onnx.data.labelled import LabelledArrays, checked_labels
from crisp_onnx.data.unpickle import read_pickle
from crisp_onnx.errors import CrispError

SIDE = 32
SPLITS = ("train", "test")


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
        names = tuple(map(str, _value(read(form.meta), form.names, root)))
        labels: list[int] = []
        array = spooled(
            _pixels(form, form.train if split == "train" else form.test, read, labels, root), (SIDE, SIDE, 3)
        )
    where = f"{split} of {root}"
    checked = checked_labels(np.array(labels), len(array), names, where)
    return LabelledArrays(ArrayStore(array, where), np.arange(len(array)), checked, names)


def cifar_names(root: Path) -> tuple[str, ...]:
    """The class names of the data set, in the order of its labels."""
    with _reader(root) as (form, read):
        return tuple(map(str, _value(read(form.meta), form.names, root)))


def _pixels(form: _Form, files: tuple[str, ...], read: Reader, labels: list[int], root: Path) -> Iterator[Any]:
    for file in files:
        content = read(file)
        data = np.asarray(_value(content, "data", root))
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
            raise CrispError(f"{file} of {root} holds {data.dtype} of shape {data.shape}, not (n, 3072) bytes.")
        labels.extend(_value(content, form.labels, root))
        yield data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _value(content: dict[str, Any], key: str, root: Path) -> Any:
    if key not in content:
        raise CrispError(f"{root} lacks {key!r} (it has {', '.join(sorted(content))}). Fetch the archive again.")
    return content[key]


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((".tar.gz", ".tgz", ".tar"))


def _form_of_folder(folder: Path) -> _Form | None:
    return next((form for form in (CIFAR10, CIFAR100) if (folder / form.meta).is_file()), None)


@contextmanager
def _reader(root: Path) -> Iterator[tuple[_Form, Reader]]:
    """Yield the form of the data set and a function that reads one of its pickles by name."""
    if not _is_archive(root):
        form = _form_of_folder(root)
        if form is None:
            raise CrispError(f"{root} holds neither {CIFAR10.meta} nor {CIFAR100.meta}; it is no CIFAR folder.")

        def read_file(name: str) -> dict[str, Any]:
            try:
                with (root / name).open("rb") as file:
                    return read_pickle(file, str(root / name))
            except OSError as error:
                raise CrispError(f"{root / name} cannot be read: {error.strerror}. Unpack it again.") from error

        yield form, read_file
        return
    try:
        with tarfile.open(root) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
            found = next((form for form in (CIFAR10, CIFAR100) if form.meta in members), None)
            if found is None:
                raise CrispError(
                    f"{root} holds neither {CIFAR10.meta} nor {CIFAR100.meta}; of archives only the Python versions of "
                    "CIFAR-10 and CIFAR-100 are read. Unpack other image archives into class folders."
                )

            def read_member(name: str) -> dict[str, Any]:
                file = archive.extractfile(members[name]) if name in members else None
                if file is None:
                    raise CrispError(f"{root} holds no {name}. Fetch the archive again.")
                return read_pickle(file, f"{name} of {root}")

            yield found, read_member
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise CrispError(f"{root} is not a readable archive: {error}. Fetch it again.") from error
