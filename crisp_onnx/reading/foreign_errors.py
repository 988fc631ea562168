"""The border: whatever code that reads a foreign file raises becomes one sentence with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crisp_onnx.errors import CrispError

LONGEST = 200
# Their text says little without their name: "'x'", "an integer is required".
BARE = (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)


@contextmanager
def border(what: str, remedy: str = "") -> Iterator[None]:
    """Turn every exception from inside into `CrispError("<what>: <reason>. <remedy>")`; `CrispError` passes.

    Decoders and parsers raise nearly anything at a damaged file, so a list of types is never whole. Keep the inside to
    the call of the foreign code: a mistake of ours in there would be laid at the file's door.

    Args:
        what: names the file and what failed, without a full stop: "The image a.png cannot be read".
        remedy: what to do about it, a sentence.
    """
    try:
        yield
    except CrispError:
        raise
    except Exception as error:
        raise CrispError(f"{what}: {reason(error)}. {remedy}".rstrip()) from error


def reason(error: BaseException) -> str:
    """What an exception says, in one printable line without a full stop, for the middle of a message."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    said = shown(lines[0].strip().rstrip(".")) if lines else ""
    if len(said) > LONGEST:
        said = said[:LONGEST] + "..."
    name = type(error).__name__
    if not said:
        return name
    return f"{name}: {said}" if isinstance(error, BARE) and not isinstance(error, UnicodeError) else said


def shown(text: str) -> str:
    """A foreign name as messages and reports show it: what does not print, and bytes that are no UTF-8, as escapes."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
