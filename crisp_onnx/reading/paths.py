"""Paths that ONNX Runtime can open."""

from __future__ import annotations

from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.reading.foreign_errors import shown


def require_utf8(path: Path, remedy: str) -> None:
    """Refuse what Python opens and ONNX Runtime does not.

    Raises:
        CrispError: the path holds bytes that are no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CrispError(
            f"The path {shown(str(path))} is not UTF-8, and ONNX Runtime opens no such path. {remedy}"
        ) from None
