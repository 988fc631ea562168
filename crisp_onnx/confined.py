"""Run a function in a process of its own, where memory and processor time have limits and an interruption ends it.

Foreign graphs make C++ code work for as long and take as much as they say, and no signal reaches Python meanwhile.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

WALL_PER_PROCESSOR_SECOND = 6
"""A child on a busy machine gets its processor time later, but one that only sleeps has an end too."""
_OUT_OF_MEMORY = 3
_SAYS_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "cannot allocate memory")
_MAIN = "from crisp_onnx.confined import main; main()"


@dataclass(frozen=True)
class Limits:
    """Of one call: bytes of data in memory, and seconds of processor time over all threads."""

    memory_bytes: int
    processor_s: int


def excess(function: str, words: tuple[Any, ...], limits: Limits) -> str:
    """Call `function` ("module:name") with `words` (plain JSON) in a child; how it left its limits.

    Returns:
        A phrase such as "takes more than 20 s of processor time". Empty where the call ended within its limits, by an
        exception too: whoever does the same without a child meets it again, and says it better.
    """
    if not sys.executable:  # Python inside another program; there are no children to be had
        return ""
    given = json.dumps([function, list(words), limits.memory_bytes, limits.processor_s])
    child = subprocess.Popen(
        [sys.executable, "-c", _MAIN], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, encoding="ascii",
    )  # fmt: skip
    too_long = f"takes more than {limits.processor_s} s of processor time"
    try:
        child.communicate(given, timeout=limits.processor_s * WALL_PER_PROCESSOR_SECOND)
    except subprocess.TimeoutExpired:
        return too_long
    finally:
        child.kill()
        child.wait()
    if child.returncode == 0:
        return ""
    if child.returncode == _OUT_OF_MEMORY:
        return f"takes more than {limits.memory_bytes / 1e9:.1f} GB of memory"
    if child.returncode == -_over_time():
        return too_long
    return f"ends its process with exit code {child.returncode}"


def main() -> None:
    """What the child does: read the call from stdin, set the limits, and say by the exit code how it ended."""
    function, words, memory_bytes, processor_s = json.load(sys.stdin)
    _limit(memory_bytes, processor_s)
    module, name = function.split(":")
    code = 0
    try:
        getattr(importlib.import_module(module), name)(*words)
    except Exception as error:
        code = _OUT_OF_MEMORY if wants_memory(error) else 0
    os._exit(code)  # nothing is left to do, and freeing gigabytes takes its time


def wants_memory(error: Exception) -> bool:
    """Whether an exception tells of memory that was not to be had; ONNX Runtime has no type of its own for that."""
    return isinstance(error, MemoryError) or any(said in str(error).lower() for said in _SAYS_MEMORY)


def _limit(memory_bytes: int, processor_s: int) -> None:
    try:
        import resource
    except ImportError:  # a system without limits; the parent's clock is left
        return
    # What was mapped but never written (libraries, weights) does not count as data.
    for kind, most in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, processor_s)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _over_time() -> int:
    """The signal at the end of the processor time; 0 on a system that has none."""
    import signal

    return int(getattr(signal, "SIGXCPU", 0))
