"""A run for which memory does not do is no defect of the product: a sentence and exit 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crisp_onnx import api
from crisp_onnx.cli import main


def test_a_run_without_memory_enough_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(api, "inspect", full)
    monkeypatch.setattr(sys, "argv", ["crisp-onnx", "inspect", str(tmp_path / "m.onnx")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert "it needs more memory than there is" in said
    assert "defect" not in said
