"""The hybrid format: nothing is lost, nothing is invented, and the bytes are those of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.errors import Defect
from crisp_onnx.format import decode, encode
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.hybrid import block_mask, block_sums, kept_blocks, nm_mask

PATTERNS = [
    Pattern(n, m, block, rows)
    for n, m in [(1, 4), (2, 4), (3, 4), (2, 8), (4, 4), (1, 2), (5, 16)]
    for block in (4, 8, 16, 32)
    for rows in (1, 2, 4, 8, 16)
    if block % m == 0 and block % rows == 0
]


def masked(shape: tuple[int, int, int, int], pattern: Pattern, keep: float, seed: int):  # type: ignore[no-untyped-def]
    """A random weight and a hybrid mask of it: (weight, mask, kept blocks)."""
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    saliency = padded_matrix(np.abs(weight), pattern.block)
    nm = nm_mask(saliency, pattern)
    scores = block_sums(saliency * nm, pattern.block)
    kept = kept_blocks(scores, max(1, round(keep * scores.shape[1])))
    return weight, from_matrix(nm & block_mask(kept, scores.shape[1], pattern.block), shape), kept


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3))


@given(shapes, st.sampled_from(PATTERNS), st.floats(0.01, 1), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_decoding_an_encoded_weight_gives_weight_times_mask_bit_for_bit(shape, pattern, keep, seed):  # type: ignore[no-untyped-def]
    weight, mask, kept = masked(shape, pattern, keep, seed)
    tensors = encode(weight, mask, kept, pattern)
    expected = np.where(mask, weight, np.float32(0))
    assert np.array_equal(decode(tensors, shape, pattern).view(np.uint32), expected.view(np.uint32))


@given(shapes, st.sampled_from(PATTERNS), st.floats(0.01, 1), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_tensors_have_the_bytes_of_the_formula(shape, pattern, keep, seed):  # type: ignore[no-untyped-def]
    weight, mask, kept = masked(shape, pattern, keep, seed)
    assert encode(weight, mask, kept, pattern).bytes == pattern.bytes(shape, kept.shape[1])


@given(shapes, st.sampled_from(PATTERNS), st.floats(0.01, 1), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_every_full_group_of_a_kept_block_keeps_exactly_n_in_all_its_rows(shape, pattern, keep, seed):  # type: ignore[no-untyped-def]
    _, mask, kept = masked(shape, pattern, keep, seed)
    rows, k = shape[0], shape[1] * shape[2] * shape[3]
    matrix = mask.transpose(0, 2, 3, 1).reshape(rows, k)
    for row in range(rows):
        blocks = set(kept[row // pattern.block])
        for start in range(0, k, pattern.m):
            group = matrix[row, start : start + pattern.m]
            inside = start // pattern.block in blocks
            if not inside:
                assert not group.any()
            elif len(group) == pattern.m:
                assert group.sum() == pattern.n
            else:
                assert group.sum() <= pattern.n


def test_a_kept_weight_that_is_zero_keeps_its_place():
    pattern = Pattern(2, 4, 4, 1)
    weight = np.zeros((4, 4, 1, 1), np.float32)
    mask = np.zeros(weight.shape, bool)
    mask[:, 2:] = True
    tensors = encode(weight, mask, np.zeros((1, 1), np.int32), pattern)
    assert tensors.indices.ravel().tolist() == [0b1110] * 4


def test_a_mask_outside_the_kept_blocks_is_refused():
    pattern = Pattern(2, 4, 4, 1)
    weight, mask, kept = masked((8, 8, 1, 1), pattern, 0.5, 0)
    with pytest.raises(Defect, match="outside the kept blocks"):
        encode(weight, mask, 1 - kept, pattern)


def test_a_mask_with_too_many_in_a_group_is_refused():
    pattern = Pattern(1, 4, 4, 1)
    with pytest.raises(Defect, match="more than 1 of 4"):
        encode(np.ones((4, 4, 1, 1), np.float32), np.ones((4, 4, 1, 1), bool), np.zeros((1, 1), np.int32), pattern)
