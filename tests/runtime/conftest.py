"""Fixtures of the runtime tests: the kernel library, or a reason to skip."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_onnx.runtime.library import load_library


@pytest.fixture(scope="session")
def library() -> Path:
    """The installed kernel library."""
    found = load_library()
    if found.path is None:
        pytest.skip(found.reason)
    return found.path
