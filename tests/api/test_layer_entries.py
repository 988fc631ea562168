"""The report's entries of the weight layers."""

from __future__ import annotations

from crisp_onnx.api.layer_entries import fit_entry
from crisp_onnx.reconstruct import LayerFit


def test_errors_of_outputs_that_overflow_are_left_out() -> None:
    assert fit_entry(LayerFit("conv", float("nan"), float("nan"), None)) is None
    assert fit_entry(LayerFit("conv", float("inf"), 0.5, 0.1)) is None
    entry = fit_entry(LayerFit("conv", 0.5, 0.25, 0.1))
    assert entry is not None and (entry.error_before, entry.error_after, entry.ridge) == (0.5, 0.25, 0.1)
