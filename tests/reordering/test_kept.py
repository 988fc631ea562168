"""The incremental score of a layer against the masks that the planner would choose, after any moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.format import Pattern
from crisp_onnx.masks.scored import score_layer
from crisp_onnx.model import WeightLayer
from crisp_onnx.reordering.kept import KeptLayer
from crisp_onnx.reordering.roles import Role
from crisp_onnx.reordering.worth import is_tight, worth_of

PATTERNS = (Pattern(2, 4, 8, 4), Pattern(1, 4, 4, 1), Pattern(2, 4, 4, 2), Pattern(3, 8, 8, 8), Pattern(4, 4, 4, 2))


def saliency(seed: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Uneven, as that of networks; some of it equal, some of it 0."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.exponential(size=(shape[0], 1, 1, 1)), rng.exponential(size=(1, *shape[1:]))
    values = rows * columns * rng.exponential(size=shape)
    values[rng.random(shape) < 0.2] = 0
    return np.round(values, 2).astype(np.float32)


def kept_by_masks(values: np.ndarray, pattern: Pattern, blocks: int) -> float:
    """What the planner's own masks keep, by the code that makes them."""
    layer = WeightLayer("layer", "Conv", "w", values.shape, 1, False, 1, "")
    return float(values[score_layer(layer, values, pattern).keep(blocks).mask].sum(dtype=np.float64))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, Pattern, int]:
    shape = (draw(st.integers(8, 20)), draw(st.integers(8, 20)), *draw(st.sampled_from([(1, 1), (2, 2), (1, 3)])))
    pattern = draw(st.sampled_from(PATTERNS))
    blocks = draw(st.integers(1, pattern.block_columns(shape)))
    return saliency(draw(st.integers(0, 2**16)), shape), pattern, blocks


@given(cases(), st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_after_any_moves_a_layer_keeps_what_masks_chosen_from_scratch_keep(
    case: tuple[np.ndarray, Pattern, int], seed: int
) -> None:
    values, pattern, blocks = case
    layer, rng = KeptLayer(values, pattern, blocks), np.random.default_rng(seed)
    for _ in range(4):
        axis, count = int(rng.integers(2)), int(rng.integers(2, 6))
        to = rng.choice(values.shape[axis], count, replace=False)
        source = rng.permutation(to)
        along = np.moveaxis(values, axis, 0)
        along[to] = along[source]
        to, source = torch.from_numpy(to), torch.from_numpy(source)
        if axis:
            layer.move_columns(layer.columns(to).reshape(-1), layer.columns(source).reshape(-1))
        else:
            layer.move_rows(to, source)
        assert layer.total == pytest.approx(kept_by_masks(values, pattern, blocks), rel=1e-5, abs=1e-6)


@given(cases(), st.booleans(), st.booleans(), st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_an_exchange_gains_at_least_what_its_bound_says(
    case: tuple[np.ndarray, Pattern, int], reads: bool, tight: bool, seed: int
) -> None:
    values, pattern, blocks = case
    layer, rng = KeptLayer(values, pattern, blocks), np.random.default_rng(seed)
    places = torch.arange(values.shape[int(reads)])[:, None]
    role = Role(layer, reads, layer.columns(places).reshape(len(places), -1) if reads else places)
    worth = worth_of(role, tight=tight)
    before = layer.total
    for _ in range(6):
        one, other = rng.choice(len(places), 2, replace=False)
        if tight and is_tight(role) and one // pattern.m == other // pattern.m:
            continue  # both places are in one group of M, whose worth the bound counts once for each
        bound = worth[one, other] + worth[other, one] - worth[one, one] - worth[other, other]
        role.move(torch.tensor([one, other]), torch.tensor([other, one]))
        assert layer.total - before >= float(bound) - 1e-4 * max(1.0, before)
        role.move(torch.tensor([one, other]), torch.tensor([other, one]))
        assert layer.total == pytest.approx(before)


@given(cases())
@settings(max_examples=30, deadline=None)
def test_a_channel_in_its_own_place_is_worth_what_its_layer_keeps_of_it(
    case: tuple[np.ndarray, Pattern, int],
) -> None:
    values, pattern, blocks = case
    layer = KeptLayer(values, pattern, blocks)
    for reads in (False, True):
        places = torch.arange(values.shape[int(reads)])[:, None]
        role = Role(layer, reads, layer.columns(places).reshape(len(places), -1) if reads else places)
        assert float(worth_of(role, tight=False).diagonal().sum()) == pytest.approx(layer.total, rel=1e-4, abs=1e-5)
