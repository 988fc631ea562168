"""Proof: a written file that answers otherwise than the masked dense graph is not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api import emit as emission
from crisp_onnx.errors import VerificationFailed
from crisp_onnx.report.schema import Report
from crisp_onnx.runtime.library import load_library

NATIVE = load_library().path is not None


@pytest.fixture
def compressed(tmp_path: Path) -> Callable[[], Report]:
    """Compresses a small model into tmp_path/out."""
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"),
        classes=(0, 2, 4),
        preprocess="unit",
        epochs=0,
        target="portable",
        output=tmp_path / "out",
    )
    return lambda: compress(recipe, data=coloured_images(12))


def answers_off_by(monkeypatch: pytest.MonkeyPatch, *errors: float) -> None:
    """The n-th answers that the proof sees are off by the n-th share of the largest."""
    true, left = emission.numbers_of, list(errors)

    def off(session: object, inputs: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        (answers,) = true(session, inputs, outputs)
        return [answers + np.abs(answers).max() * np.float32(left.pop(0) if left else 0.0)]

    monkeypatch.setattr(emission, "numbers_of", off)


def test_the_report_has_both_differences(compressed: Callable[[], Report]) -> None:
    equivalence = compressed().equivalence
    assert equivalence.worst_relative <= 1e-5
    assert (equivalence.native_worst_relative is not None) == NATIVE
    assert (equivalence.native_worst_relative or 0.0) <= 1e-4


def test_other_answers_in_stock_onnx_runtime_are_refused(
    compressed: Callable[[], Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers_off_by(monkeypatch, 0.0, 1e-3)
    with pytest.raises(VerificationFailed, match=r"differs from the masked dense graph by 1\.0e-03"):
        compressed()
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not NATIVE, reason="this installation has no native kernels")
def test_other_answers_of_the_native_kernels_are_refused(
    compressed: Callable[[], Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers_off_by(monkeypatch, 0.0, 0.0, 1e-3)
    with pytest.raises(VerificationFailed, match="With the native kernels"):
        compressed()
    assert not (tmp_path / "out").exists()


def test_what_the_runtime_itself_rounds_is_allowed(
    compressed: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_off_by(monkeypatch, 0.0, 2e-5, 2e-5)
    assert compressed().equivalence.worst_relative == pytest.approx(2e-5, rel=0.5)
