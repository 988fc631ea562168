"""Fixtures shared by all tests: the folder of real models and images, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and images: $CRISP_ONNX_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("CRISP_ONNX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real models and images at {folder}; set CRISP_ONNX_DATA")
    return folder
