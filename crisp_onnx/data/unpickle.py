"""Read pickles of plain containers and NumPy arrays without running anything that the file names."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError

NUMBER_KINDS = "biuf"


class _Type:
    """Stands for `numpy.dtype` in a pickle: keeps the type's text and byte order, and nothing else."""

    def __init__(self, text: str | bytes, *_: object) -> None:
        self.dtype = np.dtype(text.decode("ascii") if isinstance(text, bytes) else text)
        if self.dtype.kind not in NUMBER_KINDS:
            raise pickle.UnpicklingError(f"array of type {text!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stands for a NumPy array in a pickle; `array` is read-only and backed by the pickled bytes."""

    array: npt.NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        data = content.encode("latin1") if isinstance(content, str) else content
        flat = np.frombuffer(data, kind.dtype)
        self.array = flat.reshape(tuple(map(int, shape)), order="F" if fortran else "C")


def _array(subtype: object, *_: object) -> _Array:
    if subtype is not _Array:
        raise pickle.UnpicklingError("a type that is no plain array")
    return _Array()


def _from_buffer(content: bytes | bytearray, kind: _Type, shape: tuple[int, ...], order: str, *_: object) -> _Array:
    """How protocol 5 stores an array that lies in one piece."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def _latin1(text: str, encoding: str) -> bytes:
    """What `_codecs.encode` is for in a pickle of protocol 2: bytes written as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


ADMITTED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_pickle(file: IO[bytes], where: str) -> dict[str, Any]:
    """The dict that a data set's pickle holds, with text keys; arrays come back as NumPy arrays.

    Raises:
        CrispError: the file is damaged, holds no dict, or names anything but arrays and plain containers. Nothing
            that it names has been run then.
    """
    try:
        content = _Unpickler(file, encoding="latin1").load()
    except MemoryError as error:
        raise CrispError(f"{where} is damaged or larger than the memory. Fetch it again.") from error
    except Exception as error:  # a damaged pickle raises nearly anything; find_class admits no code of others
        raise CrispError(
            f"{where} is not read: {error}. Only NumPy arrays and plain containers are admitted; fetch it again "
            "from where the data set is published."
        ) from error
    if not isinstance(content, dict):
        raise CrispError(f"{where} holds a {type(content).__name__}, not the dict of a CIFAR archive.")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): _plain(value) for key, value in content.items()
    }


def _plain(value: object) -> object:
    return getattr(value, "array", None) if isinstance(value, _Array) else value
