"""The source model in a file that stays as it is while ONNX Runtime has it open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crisp_onnx.model import Model, save
from crisp_onnx.writing import hidden_name


@contextmanager
def steady(source: Model, folder: Path) -> Iterator[Path]:
    """The model's own file; a copy in `folder` where its weights lie in other files.

    ONNX Runtime maps those: one that is cut meanwhile would end the process, and with it a finished run.

    Raises:
        CrispError: the copy cannot be written.
    """
    if not source.data_files:
        yield source.path
        return
    own = folder / hidden_name()
    own.mkdir()
    try:
        path = own / source.path.name
        save(source, path)
        yield path
    finally:
        shutil.rmtree(own, ignore_errors=True)
