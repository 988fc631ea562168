"""What is alive at a time, and what stays on the chip: counted by hand on graphs whose tensors cross one another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crisp_onnx.lowering import lower
from crisp_onnx.model import Model

MAP, TOKENS = 8 * 10 * 10, 10 * 16
WEIGHTS = "<float[8,8,3,3] w, float[8,8,3,3] v>"
AT_THE_END = f"""(float[1,8,10,10] x) => (float[1,8,10,10] y) {WEIGHTS} {{
  a = Conv <pads = [1,1,1,1]> (x, w)  b = Conv <pads = [1,1,1,1]> (a, v)  c = Softmax (b)  y = Mul (c, x) }}"""
BESIDE = f"""(float[1,8,10,10] x) => (float[1,8,10,10] f, float[1,8,10,10] y) {WEIGHTS} {{
  f = Conv <pads = [1,1,1,1]> (x, w)  a = Conv <pads = [1,1,1,1]> (f, v)  y = Conv <pads = [1,1,1,1]> (a, v) }}"""
ATTENTION = """(float[1,10,16] x) => (float[1,10,16] y)
<float[16,16] q, float[16,16] k, float[16,16] v, float[16,16] p> {
  a = MatMul (x, q)  b = MatMul (x, k)  c = MatMul (x, v)  d = Transpose <perm = [0,2,1]> (b)  e = MatMul (a, d)
  s = Softmax (e)  o = MatMul (s, c)  r = MatMul (o, p)  y = Add (r, x) }"""
STORED = "(float[3,5,16] x) => (float[3,5,7] y) <float[3,16,7] w> { y = MatMul (x, w) }"
OVERWRITTEN = f"""(float[1,8,10,10] x) => (float[1,8,10,10] f, float[1,8,10,10] y) {WEIGHTS} {{
  f = Conv <pads = [1,1,1,1]> (x, w)  y = Softmax (f) }}"""


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (AT_THE_END, 3 * MAP),  # the image, kept for the last product, beside what the second Conv takes and gives
        (BESIDE, 3 * MAP),  # the first answer, beside what the last Conv takes and gives
        (ATTENTION, 5 * TOKENS),  # tokens, queries, values, keys, and these transposed, which is not done in place
        (STORED, 3 * 5 * (16 + 7)),  # a stored factor is no activation
        (OVERWRITTEN, 2 * MAP),  # nothing takes the place of an answer
    ],
    ids=["input read at the end", "answer in the middle", "attention", "stored factor", "answer read once more"],
)
def test_the_peak_counts_what_is_needed_later(model_of: Callable[..., Model], text: str, values: int) -> None:
    assert lower(model_of(text), "stc_edge_int8").peak_activation_bytes == values


def test_what_the_model_gives_is_written_though_it_is_read_inside_too(model_of: Callable[..., Model]) -> None:
    first, middle, last = lower(model_of(BESIDE), "stc_edge_int8").operators
    assert [op.dram_bytes[1] for op in (first, middle, last)] == [MAP, 0, MAP]
    assert (first.stay.output, middle.stay.output) == (False, True)
