"""Open a model for running: an ordinary ONNX Runtime session, with the native kernels wherever they can work."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.runtime.library import load_library, require_isa, which_kernel
from crisp_onnx.runtime.native import scan
from crisp_onnx.runtime.say_once import say_once

CPU = "CPUExecutionProvider"
STOCK = "stock ONNX Runtime"
BODIES = f"{STOCK}: the function bodies run at dense speed"
log = logging.getLogger(__name__)


def session(
    path: str | os.PathLike[str],
    *,
    native: bool | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (CPU,),
    options: ort.SessionOptions | None = None,
) -> ort.InferenceSession:
    """Open `path`, compressed or not, as an `onnxruntime.InferenceSession`.

    `native`: None takes the kernels where they can work and the function bodies (same answers, dense speed) elsewhere,
    with one warning a process; True insists on the kernels; False leaves them out. `threads` sets
    `intra_op_num_threads`. `options` are used as they are and must not have the library registered: ONNX Runtime
    accepts it once per options object, and this function registers it.

    Raises:
        CrispError: the file is missing or no model, `native` is True and the kernels cannot work, or ONNX Runtime
            refuses the model; the message then names the node.
    """
    file = Path(path)
    options = options or ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    reason = "The kernels were left out on request." if native is False else _reason_against(file, tuple(providers))
    if native and reason:
        raise CrispError(f"{file} cannot run with the native kernels. {reason}")
    if reason:
        log.debug("%s runs without the native kernels: %s", file, reason)
    else:
        options.register_custom_ops_library(str(load_library().path))
        kernels = f"its layers of 8 rows and 28x28 positions take {which_kernel()}"
        say_once(logging.INFO, f"{file} runs with the native kernels, instruction set {require_isa()}; {kernels}")
    try:
        opened = ort.InferenceSession(str(file), options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(f"ONNX Runtime cannot open {file}: {str(error).strip().splitlines()[0]}") from error
    return_free_memory()
    return opened


def runs_native(path: Path) -> bool:
    """Whether `session` runs hybrid operators of `path` in the native kernels.

    Raises:
        CrispError: the file is missing or no model.
    """
    return scan(path).hybrid_nodes > 0 and not _reason_against(path, (CPU,))


def runtime_text(path: Path) -> str:
    """What `session` runs `path` with: `native kernels, avx512`, or stock ONNX Runtime with or without bodies.

    Raises:
        CrispError: the file is missing or no model.
    """
    if scan(path).hybrid_nodes == 0:
        return STOCK
    return f"native kernels, {require_isa()}" if runs_native(path) else BODIES


def return_free_memory() -> None:
    """Give the heap that loading a session freed back to the system (glibc keeps it otherwise: twice the weights)."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reason_against(path: Path, providers: tuple[str, ...]) -> str:
    """Why the kernels stay out, a sentence; empty when they are used. Warns when they could have been expected."""
    found = scan(path)
    if found.hybrid_nodes == 0:
        return f"{path.name} has no hybrid operators."
    if providers != (CPU,):
        return "The kernels run on the CPU provider alone; with others they would pull layers back to the CPU."
    reason = found.reason or load_library().reason
    if reason:
        say_once(logging.WARNING, f"{reason} Compressed models run through their function bodies, at dense speed.")
    else:
        require_isa()
    return reason
