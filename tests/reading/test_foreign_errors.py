"""The border for foreign readers: one sentence, the file's name, no traceback, nothing unprintable."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TypeError("'NoneType' object is not subscriptable"), "TypeError: 'NoneType' object is not subscriptable"),
        (KeyError("descr"), "KeyError: 'descr'"),
        (OSError(28, "No space left on device", "a.png"), "No space left on device"),
        (ValueError("bad value.\nand more"), "bad value"),
        (struct.error(), "error"),
        (MemoryError(), "it needs more memory than there is"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (SystemError("tile cannot extend\x1b[2J"), r"tile cannot extend\x1b[2J"),
        (ValueError("x" * 5000), "x" * 200 + "..."),
    ],
)
def test_any_error_inside_becomes_one_sentence_with_the_file(error: Exception, said: str) -> None:
    with pytest.raises(CrispError) as caught, border("The image a.png cannot be read", "Delete it."):
        raise error
    assert str(caught.value) == f"The image a.png cannot be read: {said}. Delete it."
    assert caught.value.__cause__ is error


def test_a_sentence_of_our_own_and_an_interrupt_pass() -> None:
    with pytest.raises(CrispError, match=r"^ours$"), border("x", "y"):
        raise CrispError("ours")
    with pytest.raises(KeyboardInterrupt), border("x", "y"):
        raise KeyboardInterrupt


def test_nothing_happens_where_nothing_is_raised() -> None:
    with border("x"):
        pass


def test_names_are_shown_without_control_characters_and_lone_surrogates() -> None:
    assert shown("café 犬") == "café 犬"
    assert shown(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\xe9"
    assert shown("\x1b]0;x\x07\u202e\ud800") == r"\x1b]0;x\x07\u202e\ud800"


@given(st.text(st.characters(blacklist_categories=())))
def test_what_is_shown_always_encodes_and_prints(text: str) -> None:
    assert shown(text).isprintable()
    shown(text).encode("utf-8")
