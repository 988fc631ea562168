"""Which files a command reads beside its model: those that no result of it may replace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crisp_onnx.data.walk import SUFFIXES
from crisp_onnx.recipe import names_file


def files_read(outputs: Iterable[Path], data: object = None, *options: object) -> tuple[Path, ...]:
    """Files among what `options` name, each a path or the text of an option that takes a name or a file, and of `data`.

    Of a folder of images it is those of `outputs` that are images in it already.
    """
    named = [Path(one) for one in options if isinstance(one, Path) or (isinstance(one, str) and names_file(one))]
    if not isinstance(data, (str, Path)):
        return tuple(named)
    source = Path(data)
    if not source.is_dir():
        return (source, *named)
    folder = source.resolve()
    images = [path for path in outputs if path.suffix.lower() in SUFFIXES and path.is_file()]
    return (*named, *(path for path in images if folder in path.resolve().parents))
