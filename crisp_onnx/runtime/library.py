"""The native kernel library: where it is, whether it runs here, and which kernel it would use."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

ISA_VARIABLE = "CRISP_ONNX_ISA"
BODY = "body"
Element = Literal["float32", "int8"]
ELEMENTS: tuple[Element, ...] = ("float32", "int8")
_FILE = "libcrisp_onnx_kernels" + (".dll" if sys.platform == "win32" else ".so")


@dataclass(frozen=True)
class Library:
    """The loaded library, or the reason (a sentence) why there is none."""

    path: Path | None
    handle: ctypes.CDLL | None
    reason: str = ""


def library_path() -> Path:
    """The file that any ONNX Runtime registers: `options.register_custom_ops_library(str(library_path()))`.

    Raises:
        CrispError: this installation has no library, or this machine cannot load it.
    """
    library = load_library()
    if library.path is None:
        raise CrispError(library.reason)
    return library.path


def which_kernel(
    vector_rows: int = 8, positions: int = 784, *, gemm: bool = False, element: Element = "float32"
) -> str:
    """The kernel for layers of `vector_rows` rows a group and `positions` output positions.

    Those of a convolution are height times width; of a `gemm`, the rows of its input. Names read
    type_operation_ROWSxPOSITIONS__isa, for example `f32_hybrid_8x48__avx512`; `body` where the library does not load
    and models run their function bodies.

    Raises:
        CrispError: the environment variable CRISP_ONNX_ISA names an instruction set that does not run here.
    """
    handle = load_library().handle
    if handle is None:
        return BODY
    require_isa(element)
    name = handle.crisp_onnx_kernel_for(element.encode(), vector_rows, positions, gemm)
    if name is None:
        raise CrispError(f"No kernel has {vector_rows} rows and {positions} positions. Both must be at least 1.")
    return str(name.decode())


def require_isa(element: Element = "float32") -> str:
    """The instruction set in use: the best of this machine, or the best that CRISP_ONNX_ISA allows.

    Raises:
        CrispError: there is no library, or the variable names an instruction set that does not run here.
    """
    library = load_library()
    if library.handle is None:
        raise CrispError(library.reason)
    active = library.handle.crisp_onnx_active_isa(element.encode())
    if active is None:
        known = ", ".join(dict.fromkeys(isa for each in ELEMENTS for isa in available_isas(each)))
        raise CrispError(f"{ISA_VARIABLE} is '{os.environ.get(ISA_VARIABLE, '')}'; this machine runs {known}.")
    return str(active.decode())


def available_isas(element: Element = "float32") -> tuple[str, ...]:
    """Instruction sets that the library has kernels for and this machine runs, best first; empty without a library."""
    handle = load_library().handle
    return () if handle is None else tuple(_names(handle.crisp_onnx_isa, element.encode()))


def kernel_names(element: Element = "float32") -> tuple[str, ...]:
    """All kernels of the instruction set in use; empty without a library."""
    handle = load_library().handle
    return () if handle is None else tuple(_names(handle.crisp_onnx_kernel_name, element.encode()))


def layers_prepared() -> int:
    """Layers that sessions of this process have prepared natively so far; 0 without a library."""
    handle = load_library().handle
    return 0 if handle is None else int(handle.crisp_onnx_layers_prepared())


def core_distance_ns(threads: int) -> float | None:
    """How far apart the cores of so many threads stand: ns of a cache line's way from the first to another and back.

    The longest of them: about 50 where they share a cache, several hundred where they do not. None where the system
    does not tell, this process may use fewer cores, or there is no library.
    """
    handle = load_library().handle
    return None if handle is None else float(handle.crisp_onnx_core_distance_ns(threads)) or None


def registered_operators() -> tuple[str, ...]:
    """The hybrid operators that the library brings kernels for; empty without a library."""
    handle = load_library().handle
    return () if handle is None else tuple(_names(handle.crisp_onnx_operator))


def require_library(path: Path) -> None:
    """Whether `path` is a kernel library that loads here.

    Raises:
        CrispError: no such file, or it is none of ours, or of another version or processor.
    """
    if not path.is_file():
        raise CrispError(f"No such library: {shown(str(path))}. Leave it out for the installed one.")
    reason = _opened(path).reason
    if reason:
        raise CrispError(f"{reason} Name another, or leave it out for the installed one.")


@functools.cache
def load_library() -> Library:
    """Find and load the library, once a process. Never raises."""
    path = _find()
    if path is None:
        return Library(None, None, "This installation has no native kernels: it was built without a C++ compiler.")
    return _opened(path)


def _opened(path: Path) -> Library:
    try:
        handle = ctypes.CDLL(str(path))
        handle.crisp_onnx_layers_prepared.restype = ctypes.c_int64
        handle.crisp_onnx_core_distance_ns.restype = ctypes.c_double
        handle.crisp_onnx_core_distance_ns.argtypes = [ctypes.c_int]
        handle.crisp_onnx_active_isa.restype = ctypes.c_char_p
        handle.crisp_onnx_active_isa.argtypes = [ctypes.c_char_p]
        for function in (handle.crisp_onnx_isa, handle.crisp_onnx_kernel_name):
            function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_char_p, ctypes.c_int]
        handle.crisp_onnx_operator.restype, handle.crisp_onnx_operator.argtypes = ctypes.c_char_p, [ctypes.c_int]
        handle.crisp_onnx_kernel_for.restype = ctypes.c_char_p
        handle.crisp_onnx_kernel_for.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int]
    except (OSError, AttributeError) as error:  # AttributeError: a library of another version
        return Library(None, None, f"The native kernels at {shown(str(path))} do not load here: {error}.")
    return Library(path, handle)


def _find() -> Path | None:
    """Beside this file, or where an editable install puts what it builds: the package's folder in site-packages."""
    places = [Path(__file__).parent, *(Path(entry) / "crisp_onnx" / "runtime" for entry in sys.path if entry)]
    return next((place / _FILE for place in places if (place / _FILE).is_file()), None)


def _names(function: object, *of: bytes) -> Iterator[str]:
    index = 0
    while (name := function(*of, index)) is not None:  # type: ignore[operator]
        yield name.decode()
        index += 1
