"""Patterns: which numbers go together, and the text of every refusal."""

from __future__ import annotations

import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern, parse_pattern


@pytest.mark.parametrize(
    ("text", "block", "rows", "message"),
    [
        ("4:2", 16, 8, "1 <= N <= M"),
        ("0:4", 16, 8, "1 <= N <= M"),
        ("2:32", 32, 8, "1 <= N <= M <= 16"),
        ("2-4", 16, 8, "not of the form N:M"),
        ("2:4:8", 16, 8, "not of the form N:M"),
        ("", 16, 8, "not of the form N:M"),
        ("9" * 5000 + ":4", 16, 8, "not of the form N:M"),
        ("\u0662:\u0664", 16, 8, "not of the form N:M"),
        ("2:4", 18, 1, "not a multiple of M = 4"),
        ("2:4", 0, 1, "not a multiple of M"),
        ("2:4", -16, 1, "not a multiple of M"),
        ("2:4", 16, 3, "vector rows do not fit"),
        ("2:4", 8, 16, "Use one of 1, 2, 4, 8"),
        ("2:4", 16, 0, "vector rows do not fit"),
    ],
)
def test_numbers_that_cannot_go_together_are_refused(text, block, rows, message):
    with pytest.raises(CrispError, match=message):
        parse_pattern(text, block=block, vector_rows=rows)


def test_a_pattern_is_read_with_its_derived_numbers():
    pattern = parse_pattern(" 2:4 ", block=16, vector_rows=8)
    assert pattern == Pattern(2, 4, 16, 8)
    assert (str(pattern), pattern.density, pattern.row_groups, pattern.kept_columns) == ("2:4", 0.5, 2, 8)
    assert [Pattern(1, m, 16, 1).index_bits for m in (1, 2, 4, 8, 16)] == [1, 1, 2, 4, 4]


def test_the_bytes_are_those_of_a_layer_worked_out_by_hand():
    # 512 x 512 x 3 x 3, 2:4, B = 16, V = 8, 58 of 288 block columns: R = 32, G = 2, Z = 8.
    slots = 32 * 58
    assert Pattern().bytes((512, 512, 3, 3), 58) == slots * 2 * 8 * 8 * 4 + slots * 2 * 2 + slots * 4
