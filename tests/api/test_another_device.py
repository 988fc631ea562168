"""Another device than the processor: every road computes there, and gives the same model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from same_elsewhere import QUICK, ROADS

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "road", [pytest.param(road, marks=() if road == QUICK else pytest.mark.slow) for road in ROADS]
)
def test_the_model_is_the_one_that_the_processor_gives(road: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "same_elsewhere.py", road, tmp_path], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stdout, done.stdout
