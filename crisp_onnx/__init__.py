"""Compress trained ONNX classifiers for the classes their user really meets: faster, smaller, and measured."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crisp_onnx.api import (
        BankFound,
        Bench,
        BlocksFound,
        Calibrated,
        Check,
        CrispError,
        DoctorReport,
        Estimation,
        Exploration,
        Inspection,
        Limits,
        Lowered,
        Recipe,
        Report,
        Space,
        TargetComparison,
        TargetList,
        TargetText,
        Verification,
        assist,
        bench,
        blocks,
        calibrate,
        check,
        compare_targets,
        compress,
        compress_nested,
        doctor,
        estimate,
        explore,
        inspect,
        lower,
        make_bank,
        merge_banks,
        show_target,
        targets,
        verify,
    )

    __version__: str

__all__ = [
    "BankFound",
    "Bench",
    "BlocksFound",
    "Calibrated",
    "Check",
    "CrispError",
    "DoctorReport",
    "Estimation",
    "Exploration",
    "Inspection",
    "Limits",
    "Lowered",
    "Recipe",
    "Report",
    "Space",
    "TargetComparison",
    "TargetList",
    "TargetText",
    "Verification",
    "__version__",
    "assist",
    "bench",
    "blocks",
    "calibrate",
    "check",
    "compare_targets",
    "compress",
    "compress_nested",
    "doctor",
    "estimate",
    "explore",
    "inspect",
    "lower",
    "make_bank",
    "merge_banks",
    "show_target",
    "targets",
    "verify",
]


def __getattr__(name: str) -> object:
    # Torch takes seconds to import, and `crisp-onnx --help` must not wait for it.
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("crisp-onnx")
    if name in __all__:
        return getattr(importlib.import_module("crisp_onnx.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
