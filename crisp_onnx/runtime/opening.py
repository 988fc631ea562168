"""Open a model for running: an ordinary ONNX Runtime session, with the native kernels wherever they can work."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime as ort

from crisp_onnx.errors import CrispError
from crisp_onnx.runtime.library import load_library, require_isa, which_kernel
from crisp_onnx.runtime.native import Scan, parse_graph, scan, scan_model
from crisp_onnx.say_once import say_once

CPU = "CPUExecutionProvider"
COMPUTE_ON_CPU = frozenset({CPU, "AzureExecutionProvider"})
"""Azure's provider, in every wheel of ONNX Runtime, sends requests elsewhere and takes no node of a model."""
ONNX_WHATEVER_ITS_NAME = ("session.load_model_format", "ONNX")
"""A file that ends in .ort is taken for one in ONNX Runtime's own format otherwise."""
SLEEP_BETWEEN_RUNS = ("session.force_spinning_stop", "1")
REGISTERED = "pkg.crisp_onnx.registered"  # the library leaves this entry on the options that it is registered on
STOCK = "stock ONNX Runtime"
BODIES = f"{STOCK}: the function bodies run at dense speed"
Provider = str | tuple[str, Mapping[str, object]]
log = logging.getLogger(__name__)


def session(
    model: str | os.PathLike[str] | bytes,
    *,
    native: bool | None = None,
    threads: int | None = None,
    sleep_between_runs: bool = False,
    providers: Sequence[Provider] = (CPU,),
    options: ort.SessionOptions | None = None,
) -> ort.InferenceSession:
    """Open `model`, a file or its bytes, compressed or not, as an `onnxruntime.InferenceSession`.

    Args:
        native: None takes the kernels where they can work and the function bodies (same answers, dense speed)
            elsewhere, with one warning a process; True insists on the kernels; False leaves them out.
        threads: sets `intra_op_num_threads`.
        sleep_between_runs: threads sleep as soon as a run ends, instead of spinning for tens of milliseconds on cores
            that others need. For processes with several sessions of several threads each (docs/runtime.md).
        providers: as in ONNX Runtime, with or without options. The kernels work where the CPU provider does all the
            work: alone, or beside others that this installation does not have.
        options: may serve any number of sessions. The library is registered on them the first time, and stays.

    Raises:
        CrispError: the file is missing or no model, `native` is True and the kernels cannot work, `options` bring
            kernels that must stay out, or ONNX Runtime refuses the model; the message then names the node.
    """
    is_ours = options is None
    options = options or ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if sleep_between_runs:
        options.add_session_config_entry(*SLEEP_BETWEEN_RUNS)
    name, found = _named(model), _scan(model)
    reason = "The kernels were left out on request." if native is False else _reason_against(found, name, providers)
    if native and reason:
        raise CrispError(f"{name} cannot run with the native kernels. {reason}")
    if reason:
        log.debug("%s runs without the native kernels: %s", name, reason)
        if found.operators and _registered(options):
            raise CrispError(
                f"These options bring the native kernels, which must stay out here, to {name}. {reason} Give others."
            )
    else:
        if is_ours and found.elements == ("int8",):
            options.enable_mem_pattern = False  # the second run lays all out anew beside the first, in no less time
        _register(options, found, name)
    opened = _open(model, options, providers)
    fell_back = _on_cpu_alone(opened.get_providers()) and not _on_cpu_alone(providers)
    if native is None and found.operators and fell_back:  # there the kernels work after all
        return session(model, options=options)
    return_free_memory()
    return opened


def _register(options: ort.SessionOptions, found: Scan, name: str) -> None:
    """Bring the native kernels to sessions with these options, and say once which they are."""
    options.register_custom_ops_library(str(load_library().path))
    taken = " and ".join(which_kernel(element=element) for element in found.elements)
    sets = " and ".join(dict.fromkeys(map(require_isa, found.elements)))
    kernels = f"its layers of 8 rows and 28x28 positions take {taken}"
    say_once(logging.INFO, f"{name} runs with the native kernels, instruction set {sets}; {kernels}")


def timing_options(threads: int) -> ort.SessionOptions:
    """Options of a session that is timed, alone: those of any session, its threads counted and its log quiet."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(*ONNX_WHATEVER_ITS_NAME)
    return options


def runs_native(path: Path) -> bool:
    """Whether `session` runs operators of ours in `path` in the native kernels.

    Raises:
        CrispError: the file is missing or no model.
    """
    return not _reason_against(scan(path), str(path))


def runtime_text(path: Path) -> str:
    """What `session` runs `path` with: `native kernels, avx512`, or stock ONNX Runtime with or without bodies.

    Raises:
        CrispError: the file is missing or no model.
    """
    found = scan(path)
    if not found.operators:
        return STOCK
    if not runs_native(path):
        return BODIES
    return f"native kernels, {' and '.join(dict.fromkeys(map(require_isa, found.elements)))}"


def return_free_memory() -> None:
    """Give the heap that loading a session freed back to the system (glibc keeps it otherwise: twice the weights)."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _open(
    model: str | os.PathLike[str] | bytes, options: ort.SessionOptions, providers: Sequence[Provider]
) -> ort.InferenceSession:
    source = model if isinstance(model, bytes) else str(Path(model))
    try:
        return ort.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        raise CrispError(f"ONNX Runtime cannot open {_named(model)}: {str(error).strip().splitlines()[0]}") from error


def _scan(model: str | os.PathLike[str] | bytes) -> Scan:
    return scan_model(parse_graph(model)) if isinstance(model, bytes) else scan(Path(model))


def _reason_against(found: Scan, name: str, providers: Sequence[Provider] = (CPU,)) -> str:
    """Why the kernels stay out, a sentence; empty when they are used. Warns when they could have been expected."""
    if not found.operators:
        return f"{name} has no hybrid operators."
    reason = found.against(load_library())
    if not reason and not _on_cpu_alone(providers):
        others = ", ".join(provider for provider in _available(providers) if provider not in COMPUTE_ON_CPU)
        reason = f"The kernels run on the CPU alone and would pull layers back from {others}."
    if reason:
        say_once(logging.WARNING, f"{reason} Compressed models run through their function bodies, at dense speed.")
    else:
        require_isa()
    return reason


def _named(model: str | os.PathLike[str] | bytes) -> str:
    return "The model in memory" if isinstance(model, bytes) else str(Path(model))


def _available(providers: Sequence[Provider]) -> list[str]:
    """Names of those that this installation has; ONNX Runtime leaves the others out, with a warning."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    return [name for name in names if name in ort.get_available_providers()]


def _on_cpu_alone(providers: Sequence[Provider]) -> bool:
    """Whether the CPU provider does all the work: without any other, ONNX Runtime takes it unasked."""
    return all(name in COMPUTE_ON_CPU for name in _available(providers))


def _registered(options: ort.SessionOptions) -> bool:
    """Whether the library is registered on these options, by this module or by anyone else."""
    try:
        return bool(options.get_session_config_entry(REGISTERED))
    except RuntimeError:  # onnxruntime's answer where there is no such entry
        return False
