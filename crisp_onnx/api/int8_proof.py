"""Prove an int8 file: it runs, and the native kernels give what the function bodies give, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.api.int8 import Int8
from crisp_onnx.errors import VerificationFailed
from crisp_onnx.runtime.int8_layers import LEAST_EQUAL, LayerAgreement, int8_agreement
from crisp_onnx.runtime.opening import runs_native


def prove_int8(path: Path, inputs: npt.NDArray[np.float32], int8: Int8 | None) -> Int8 | None:
    """What the kernels say of the written file, in the report's entry.

    Raises:
        VerificationFailed: they differ from a function body by more than a step, or in more than one value in 1,000.
    """
    if int8 is None or not runs_native(path):
        return int8
    found = int8_agreement(path, inputs)
    if not found:
        return int8
    require_agreement(found)
    worst, equal = max(layer.worst_step for layer in found), min(layer.equal for layer in found)
    return replace(int8, entry=int8.entry.model_copy(update={"worst_step": worst, "share_equal": equal}))


def require_agreement(found: tuple[LayerAgreement, ...]) -> None:
    """Refuse a layer in which the kernels do not give what the body gives."""
    wrong = next((layer for layer in found if not layer.holds), None)
    if wrong is not None:
        raise VerificationFailed(
            f"In layer {wrong.name!r} the native kernels differ from the function body by up to {wrong.worst_step} "
            f"steps and agree in {100 * wrong.equal:.2f} % of the values (at least {100 * LEAST_EQUAL:g} % are to, the "
            "others within a step). Please report it with the model; --precision fp32 avoids it."
        )
