"""Read pickles of plain containers and NumPy arrays without running anything that the file names."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border

NUMBER_KINDS = "biuf"
LONGEST_TYPE = 8

# What a data set of plain containers and arrays is made of. No instances of classes, no references out of the file.
CONTAINERS = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
    "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "EMPTY_LIST", "APPEND", "APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT",
    "MEMOIZE",
))  # fmt: skip
# Arrays name functions, call them, and give the result its content.
ARRAYS = frozenset(("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"))
PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
TUPLES = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
MAX_OPCODES = 4_000_000
# A tuple is hashed in C, a call a level; thousands of levels end the process.
MAX_TUPLES = 1_000


class _Type:
    """Stands for `numpy.dtype` in a pickle: keeps the type's text and byte order, and nothing else."""

    def __init__(self, text: str | bytes, *_: object) -> None:
        if not isinstance(text, (str, bytes)) or len(text) > LONGEST_TYPE:
            raise pickle.UnpicklingError("an array of a type that is no number")
        self.dtype = np.dtype(text.decode("ascii") if isinstance(text, bytes) else text)
        if self.dtype.kind not in NUMBER_KINDS:
            raise pickle.UnpicklingError(f"array of type {text!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stands for a NumPy array in a pickle; `array` is read-only and backed by the pickled bytes."""

    __slots__ = ("array", "encoded")
    array: npt.NDArray[Any] | None
    encoded: Callable[[str], bytes] | None

    def __init__(self) -> None:
        self.array = self.encoded = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, str) and self.encoded is not None:  # bytes that Python 2 wrote
            content = self.encoded(content)
        if not isinstance(content, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array without content")
        flat = np.frombuffer(content, kind.dtype)
        self.array = flat.reshape(tuple(map(int, shape)), order="F" if fortran else "C")


class _Function:
    """A function that a pickle may name and call, but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Unpickler(pickle.Unpickler):
    """`left`: bytes that text may still be turned into, so that calls do not multiply what the file holds."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.left = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Type
        if (module, name) == ("_codecs", "encode"):
            return _Function(self._bytes)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Function(self._array)
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _Function(self._from_buffer)
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to objects outside the file")

    def _array(self, subtype: object, *_: object) -> _Array:
        if subtype is not _Array:
            raise pickle.UnpicklingError("a type that is no plain array")
        array = _Array()
        array.encoded = self._encoded
        return array

    def _from_buffer(self, content: object, kind: _Type, shape: tuple[int, ...], order: str, *_: object) -> _Array:
        """How protocol 5 stores an array that lies in one piece."""
        array = _Array()
        array.__setstate__((1, shape, kind, order == "F", content))
        return array

    def _bytes(self, text: str, encoding: str) -> bytes:
        """What `_codecs.encode` is for in a pickle of protocol 2: bytes written as text."""
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
        return self._encoded(text)

    def _encoded(self, text: str) -> bytes:
        self.left -= len(text)
        if self.left < 0:
            raise pickle.UnpicklingError("it multiplies what it holds")
        return text.encode("latin1")


def read_pickle(content: bytes, where: str) -> dict[str, Any]:
    """The dict that a data set's pickle holds, entries with text keys alone; arrays come back as NumPy arrays.

    Raises:
        CrispError: the file is damaged, holds no dict, or names anything but arrays and plain containers. Nothing
            that it names has been run then.
    """
    remedy = "Only NumPy arrays and plain containers are admitted; fetch it again from where the data set is published."
    with border(f"{where} is not read", remedy):
        _check_operations(content)
        found = _Unpickler(content).load()
    if not isinstance(found, dict):
        raise CrispError(f"{where} holds a {type(found).__name__}, not the dict of a CIFAR archive.")
    texts = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}
    return {
        key: value.array if isinstance(value, _Array) else value for key, value in texts.items() if isinstance(key, str)
    }


def _check_operations(content: bytes) -> None:
    """Look at every operation before one is done.

    Raises:
        UnpicklingError: one that no data set needs, or so many that memory or the stack would not do.
        ValueError: the pickle ends in the middle of one.
    """
    tuples = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        name = operation.name
        tuples += name in TUPLES
        if name not in CONTAINERS and name not in ARRAYS:
            raise pickle.UnpicklingError(f"it holds a {name}")
        if count > MAX_OPCODES or tuples > MAX_TUPLES:
            raise pickle.UnpicklingError("it is too long or too deep for a data set")
        if name in PUTS and int(argument or 0) > count:  # the reader makes room for all places up to that one
            raise pickle.UnpicklingError("it is damaged")
