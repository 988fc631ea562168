"""Read small text files: bounded in size, in UTF-8."""

from __future__ import annotations

from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.reading.foreign_errors import border, shown

MAX_BYTES = 16 << 20
# Where `str.splitlines` ends a line.
_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def read_text(path: Path, what: str, *, limit: int = MAX_BYTES) -> str:
    """The text of a file of at most `limit` bytes; `what` names it in messages, for example "label file".

    Raises:
        CrispError: there is no such file, it cannot be read, is too large, or is not text.
    """
    name = f"The {what} {shown(str(path))}"
    with border(f"{name} cannot be read"), path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
        raise CrispError(f"{name} is larger than {size}, too large for a {what}. Shorten it.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CrispError(f"{name} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


def line_count(text: str) -> int:
    """How many lines end in `text`, as `splitlines` counts them, without making any."""
    return sum(map(text.count, _ENDS)) - text.count("\r\n")
