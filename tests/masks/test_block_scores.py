"""Scores and masks of one layer against loops, a hand case and the invariants of the pattern."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.masks.allocation import rank_columns
from crisp_onnx.masks.hybrid import block_mask, block_sums, kept_blocks, nm_mask

GRIDS = [(1, 5), (5, 1), (4, 4), (4, 9), (9, 4)]
PATTERNS = [
    Pattern(n, m, block, rows)
    for n, m, block, rows in [(1, 4, 4, 1), (2, 4, 8, 2), (2, 4, 16, 8), (3, 4, 4, 4), (2, 8, 8, 8), (1, 2, 4, 2)]
] + [Pattern(4, 4, 8, 4), Pattern(5, 16, 16, 16), Pattern(1, 1, 4, 4)]
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3))


def shape_of(grid: tuple[int, int], window: tuple[int, int], block: int, padded: bool) -> tuple[int, int, int, int]:
    """A weight shape whose matrix has `grid` blocks; with `padded` the last block of each axis is not full."""
    rows, columns = grid
    kh, kw = window
    cout, k = rows * block, columns * block
    cin = -(-k // (kh * kw)) if padded else k // (kh * kw)
    return (cout - 1 if padded else cout, cin, kh, kw)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("window", [(1, 1), (1, 3), (3, 1), (3, 3)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_block_scores_are_those_of_four_loops(grid, window, padded):
    block = 18  # a multiple of every window, so that the grid is met exactly
    pattern = Pattern(1, 2, block, 2)
    shape = shape_of(grid, window, block, padded)
    weight = np.random.default_rng(0).random(shape)
    cout, cin, kh, kw = shape
    expected = np.zeros((pattern.block_rows(shape), pattern.block_columns(shape)))
    for o in range(cout):
        for i in range(cin):
            for y in range(kh):
                for x in range(kw):
                    expected[o // block, ((y * kw + x) * cin + i) // block] += weight[o, i, y, x]
    scores = block_sums(padded_matrix(weight, block), block)
    assert scores.shape == expected.shape
    assert padded or scores.shape == grid
    assert np.allclose(scores, expected)


@given(shapes, st.sampled_from(PATTERNS), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_nm_choice_is_that_of_a_loop_over_groups(shape, pattern, seed):
    saliency = padded_matrix(np.random.default_rng(seed).integers(0, 4, shape).astype(float), pattern.block)
    mask = nm_mask(saliency, pattern)
    for top in range(0, saliency.shape[0], pattern.vector_rows):
        rows = slice(top, top + pattern.vector_rows)
        for left in range(0, saliency.shape[1], pattern.m):
            sums = saliency[rows, left : left + pattern.m].sum(0)
            best = sorted(range(pattern.m), key=lambda place, sums=sums: (-sums[place], place))[: pattern.n]
            expected = [place in best for place in range(pattern.m)]
            assert (mask[rows, left : left + pattern.m] == expected).all()


@given(shapes, st.sampled_from(PATTERNS))
@settings(max_examples=100, deadline=None)
def test_the_matrix_view_is_undone_exactly_and_has_the_channel_fastest(shape, pattern):
    weight = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    matrix = padded_matrix(weight, pattern.block)
    assert np.array_equal(from_matrix(matrix, shape), weight)
    assert matrix.shape == tuple(
        side * pattern.block for side in (pattern.block_rows(shape), pattern.block_columns(shape))
    )
    cin = shape[1]
    assert np.array_equal(matrix[0, :cin], weight[0, :, 0, 0])
    assert matrix.sum() == weight.sum()


def test_one_live_block_survives_and_the_other_rows_follow_the_tie_rule():
    pattern = Pattern(2, 4, 4, 1)
    weight = np.zeros((12, 20, 1, 1))
    weight[4:8, 12:16] = 1.0
    saliency = padded_matrix(weight, 4)
    scores = block_sums(saliency * nm_mask(saliency, pattern), 4)
    assert kept_blocks(scores, 1).tolist() == [[0], [3], [0]]
    assert kept_blocks(scores, 2).tolist() == [[0, 1], [0, 3], [0, 1]]


@given(shapes, st.sampled_from(PATTERNS), st.floats(0.01, 1), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_groups_hold_n_and_block_rows_hold_as_many_blocks(shape, pattern, share, seed):
    saliency = padded_matrix(np.random.default_rng(seed).random(shape), pattern.block)
    nm = nm_mask(saliency, pattern)
    scores = block_sums(saliency * nm, pattern.block)
    keep = max(1, round(share * scores.shape[1]))
    mask = nm & block_mask(kept_blocks(scores, keep), scores.shape[1], pattern.block)
    groups = mask.reshape(mask.shape[0], -1, pattern.m).sum(-1)
    assert set(np.unique(groups)) <= {0, pattern.n}
    assert (groups > 0).sum() == mask.shape[0] * keep * pattern.block // pattern.m
    assert (block_sums(mask, pattern.block).astype(bool).sum(1) == keep).all()
    shared = mask.reshape(-1, pattern.vector_rows, mask.shape[1])
    assert (shared == shared[:, :1]).all()


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_rank_columns_never_fall_and_lose_nothing(rows, columns, seed):
    rng = np.random.default_rng(seed)
    scores, cost = rng.integers(0, 5, (rows, columns)).astype(float), rng.integers(0, 9, (rows, columns)).astype(float)
    ranked = rank_columns(scores, cost)
    assert (np.diff(ranked.saliency) >= 0).all()
    assert ranked.saliency.sum() == scores.sum()
    assert ranked.cost.sum() == cost.sum()
    for keep in range(1, columns + 1):  # what a removed rank column costs is what the kept blocks then lack
        kept = kept_blocks(scores, keep)
        assert np.take_along_axis(cost, kept.astype(np.int64), 1).sum() == ranked.cost[columns - keep :].sum()
        assert np.take_along_axis(scores, kept.astype(np.int64), 1).sum() == ranked.saliency[columns - keep :].sum()


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p} B{p.block} V{p.vector_rows}")
def test_permuting_whole_block_rows_permutes_the_masks(pattern):
    rng = np.random.default_rng(0)
    saliency = rng.random((5 * pattern.block, 7 * pattern.block))
    order = np.array([3, 0, 4, 1, 2])
    rows = (order[:, None] * pattern.block + np.arange(pattern.block)).ravel()

    def mask(matrix):
        nm = nm_mask(matrix, pattern)
        kept = kept_blocks(block_sums(matrix * nm, pattern.block), 3)
        return nm & block_mask(kept, 7, pattern.block)

    assert np.array_equal(mask(saliency[rows]), mask(saliency)[rows])


def test_selection_by_blocks_keeps_more_than_chance():
    rng = np.random.default_rng(0)
    pattern = Pattern(4, 4, 16, 1)
    saliency = rng.lognormal(sigma=2.0, size=(128, 1152))
    scores = block_sums(saliency * nm_mask(saliency, pattern), 16)
    kept = block_mask(kept_blocks(scores, round(scores.shape[1] * 0.67)), scores.shape[1], 16)
    assert saliency[kept].sum() / saliency.sum() > 0.75
