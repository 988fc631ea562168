"""What this machine has and lacks for crisp-onnx, each finding with what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Literal

from crisp_onnx.errors import CrispError
from crisp_onnx.report.machine import memory_bytes, processor
from crisp_onnx.report.schema import Part
from crisp_onnx.report.wording import size_text

PACKAGE = "crisp-onnx"
OPTIONAL = {
    "matplotlib": "draws report.html: pip install 'crisp-onnx[report]'",
    "optuna": "searches in explore: pip install 'crisp-onnx[explore]'",
    "netron": "opens models with inspect --netron: pip install netron",
}
FEATURES = {
    "x86": {
        "avx2": "without it training and inference are several times slower; nothing else is lost",
        "avx512f": "the AVX2 code is taken instead; nothing to do",
        "avx512_vnni": "int8 kernels take AVX-VNNI or AVX2 instead; nothing to do",
        "avx512vbmi": "int8 kernels gather their inputs in more steps; nothing to do",
        "avx_vnni": "int8 kernels take AVX-512 with VNNI where there is that, and AVX2 elsewhere; nothing to do",
    },
    "arm": {
        "asimd": "without it training and inference are several times slower; nothing else is lost",
        "asimddp": "int8 kernels do their dot products in plain C++; nothing to do",
    },
}
COMPILERS = ("g++", "clang++", "c++", "cl")
ENOUGH_BYTES = 4 << 30


class Finding(Part):
    """One thing looked for. `remedy` is empty where nothing needs doing."""

    name: str
    state: Literal["ok", "missing", "old"]
    found: str
    remedy: str = ""


class DoctorReport(Part):
    """All findings. `ready`: nothing that every command needs is missing or old."""

    ready: bool
    findings: tuple[Finding, ...]


def doctor() -> DoctorReport:
    """Look at versions, processor, memory, compiler, kernels and optional packages; whatever is missing, it answers."""
    needed = (_python(), *_required())
    comforts = (*_optional(), *_processor(), _threads(), _memory(), _compiler(), *_kernels())
    return DoctorReport(ready=all(f.state == "ok" for f in needed), findings=(*needed, *comforts))


def versions(names: Iterable[str] = ("torch", "onnx", "onnxruntime", "numpy")) -> dict[str, str]:
    """Versions of Python, this package and the named ones, for a report; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in (PACKAGE, *names):
        version = _version(name)
        if version is not None:
            found[name] = version
    return found


def _python() -> Finding:
    state: Literal["ok", "old"] = "ok" if sys.version_info >= (3, 10) else "old"
    return Finding(
        name="python", state=state, found=platform.python_version(), remedy="" if state == "ok" else "Use Python 3.10."
    )


def _required() -> list[Finding]:
    """The package itself and what its metadata requires, each against its oldest admitted version."""
    own = _version(PACKAGE)
    if own is None:
        remedy = "It runs from a source tree that is not installed: pip install -e . in that folder."
        return [Finding(name=PACKAGE, state="missing", found="", remedy=remedy)]
    requirements = [r for r in metadata.requires(PACKAGE) or [] if "extra ==" not in r]
    return [Finding(name=PACKAGE, state="ok", found=own), *map(_requirement, requirements)]


def _requirement(requirement: str) -> Finding:
    name = re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0]
    oldest = re.search(r">=\s*([\w.]+)", requirement)
    found = _version(name)
    if found is None:
        return Finding(name=name, state="missing", found="", remedy=f"pip install '{requirement}'")
    if oldest and _release(found) < _release(oldest[1]):
        return Finding(name=name, state="old", found=found, remedy=f"pip install --upgrade '{requirement}'")
    return Finding(name=name, state="ok", found=found)


def _optional() -> list[Finding]:
    findings = []
    for name, use in OPTIONAL.items():
        found = _version(name)
        state: Literal["ok", "missing"] = "ok" if found else "missing"
        findings.append(Finding(name=name, state=state, found=found or "", remedy="" if found else f"Optional; {use}"))
    return findings


def _processor() -> list[Finding]:
    name, features = processor()
    findings = [Finding(name="processor", state="ok", found=name)]
    if features is None:
        remedy = "Features are read from /proc/cpuinfo, which this system lacks; speed may be lower, answers are not."
        return [*findings, Finding(name="processor features", state="missing", found="unknown", remedy=remedy)]
    family = "arm" if platform.machine().lower().startswith(("arm", "aarch")) else "x86"
    for feature, loss in FEATURES[family].items():
        there = feature in features
        remedy = "" if there else f"This processor has no {feature}: {loss}."
        findings.append(
            Finding(name=feature, state="ok" if there else "missing", found="yes" if there else "no", remedy=remedy)
        )
    return findings


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    found = f"{usable} usable of {os.cpu_count()}" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    return Finding(name="threads", state="ok", found=found + _apart())


def _apart() -> str:
    """How long a cache line takes between the cores of two threads and back."""
    try:
        from crisp_onnx.runtime.library import core_distance_ns
    except ImportError:
        return ""
    apart_ns = core_distance_ns(2)
    return "" if apart_ns is None else f", the first two {apart_ns:.0f} ns apart"


def _memory() -> Finding:
    total, free = memory_bytes()
    if total is None or free is None:
        return Finding(name="memory", state="missing", found="unknown", remedy="Check by hand that 4 GB are free.")
    found = f"{size_text(free)} free of {size_text(total)}"
    if free >= ENOUGH_BYTES:
        return Finding(name="memory", state="ok", found=found)
    remedy = "Large models may not fit: close other programs, or use a smaller batch."
    return Finding(name="memory", state="missing", found=found, remedy=remedy)


def _compiler() -> Finding:
    wanted = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    found = next((path for name in wanted if (path := shutil.which(name))), None)
    if found:
        return Finding(name="C++ compiler", state="ok", found=str(Path(found)))
    remedy = (
        "Install one (apt install g++; xcode-select --install; Visual Studio Build Tools). "
        "Without it fine-tuning is not compiled and takes several times longer."
    )
    return Finding(name="C++ compiler", state="missing", found="", remedy=remedy)


def _kernels() -> list[Finding]:
    """Of each element type the instruction sets that run here, the one in use, and its kernel of a usual layer."""
    name = "native kernels"
    try:
        from crisp_onnx.runtime.library import ELEMENTS, load_library
    except ImportError:
        return [Finding(name=name, state="missing", found="", remedy="Install the packages above first.")]
    reason = load_library().reason
    if reason:
        remedy = (
            f"{reason} Compressed models run no faster than dense ones: install crisp-onnx again, on this machine and "
            "with a C++ compiler."
        )
        return [Finding(name=name, state="missing", found="", remedy=remedy)]
    return [_kernel(f"{name}, {element}", element) for element in ELEMENTS]


def _kernel(name: str, element: Literal["float32", "int8"]) -> Finding:
    from crisp_onnx.runtime.library import available_isas, require_isa, which_kernel

    known = ", ".join(available_isas(element))
    try:
        used = f"{known}; in use: {require_isa(element)} ({which_kernel(element=element)})"
    except CrispError as error:
        return Finding(name=name, state="missing", found=known, remedy=f"{error} Unset the variable.")
    return Finding(name=name, state="ok", found=used)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a release: `2.13.0+cpu` and `2.13.0rc1` are (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z-]", version, maxsplit=1)[0]))
