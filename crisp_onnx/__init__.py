"""Compress trained ONNX classifiers for the classes their user really meets: faster, smaller, and measured."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crisp_onnx.api import (
        Check,
        CrispError,
        DoctorReport,
        Inspection,
        Recipe,
        Verification,
        check,
        compress,
        doctor,
        inspect,
        verify,
    )

__all__ = [
    "Check",
    "CrispError",
    "DoctorReport",
    "Inspection",
    "Recipe",
    "Verification",
    "check",
    "compress",
    "doctor",
    "inspect",
    "verify",
]


def __getattr__(name: str) -> object:
    # Torch takes seconds to import, and `crisp-onnx --help` must not wait for it.
    if name in __all__:
        return getattr(importlib.import_module("crisp_onnx.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
