"""Masks chosen by what is left after the fit: the pattern holds, costs are those of a plain refit, and less is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.format import Pattern
from crisp_onnx.format.matrix import padded_matrix
from crisp_onnx.masks import Candidates, Threshold, nearest
from crisp_onnx.masks.hybrid import block_sums
from crisp_onnx.model import WeightLayer
from crisp_onnx.reconstruct.choices import CHOICES, chosen
from crisp_onnx.reconstruct.evidence import evidence
from crisp_onnx.reconstruct.layer_fit import best_fit
from crisp_onnx.reconstruct.obs import _removal
from crisp_onnx.reconstruct.samples import mask_rows

PATTERN = Pattern(2, 4, 8, 4)


def planned_layer(rows: int, columns: int, kept: float, seed: int):
    layer = WeightLayer("one", "Conv", "w", (rows, columns, 1, 1), 1, False, 1, "")
    saliency = np.random.default_rng(seed).random(layer.shape, dtype=np.float32)
    plan = Threshold(Candidates((layer,), PATTERN, {}), kept).plan({"w": saliency})
    (item,) = plan.sparse()
    return item


def case(rows: int, columns: int, seed: int):
    """What is known of a layer whose inputs depend on each other, rows that judge, and its dense weights."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((columns // 2, columns))
    x = random.standard_normal((900, columns // 2)) @ mixing + 0.3 * random.standard_normal((900, columns))
    weight = random.standard_normal((rows, columns)) * random.gamma(0.5, 1, (rows, columns))
    x, y = x.astype(np.float32), (x @ weight.T).astype(np.float32)
    known = evidence(columns, rows, centred=True, device=torch.device("cpu"))
    known.add(torch.from_numpy(x[:600]), torch.from_numpy(y[:600]))
    return known, tuple(torch.from_numpy(part[600:]) for part in (x, y)), torch.from_numpy(weight)


def lost(known, judged, weight, item) -> float:
    support = mask_rows(item.layer, item.mask)
    return best_fit(known, judged, torch.where(support, weight, 0), support, PATTERN.vector_rows).after


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["obs", "alps"]), st.integers(5, 30), st.integers(9, 50), st.integers(0, 99))
def test_every_choice_keeps_the_pattern_and_as_many_weights_as_planned(choice, rows, columns, seed):
    item = planned_layer(rows, columns, 0.3, seed)
    known, _, weight = case(rows, columns, seed)
    found = chosen(choice, known, weight, item)
    assert found.kept_weights == item.kept_weights
    assert found.kept.shape == item.kept.shape and (np.diff(found.kept, axis=1) > 0).all()
    mask = padded_matrix(found.mask, PATTERN.block)
    blocks = block_sums(mask, PATTERN.block)
    for row, kept in enumerate(found.kept):
        assert set(np.flatnonzero(blocks[row])) <= set(kept)
    groups = mask.reshape(-1, PATTERN.vector_rows, mask.shape[1] // 4, 4)
    assert groups.sum(-1).max() <= PATTERN.n
    live = groups[: -(-rows // PATTERN.vector_rows)]
    shared = live.any(1)[:, None] == live
    assert shared[: rows // PATTERN.vector_rows].all()


@pytest.mark.parametrize("choice", ["obs", "alps"])
def test_less_is_lost_than_under_masks_by_magnitude(choice):
    rows, columns = 32, 64
    ratios = []
    for seed in range(4):
        known, judged, weight = case(rows, columns, seed)
        layer = WeightLayer("one", "Conv", "w", (rows, columns, 1, 1), 1, False, 1, "")
        saliency = {"w": weight.abs().float().numpy().reshape(layer.shape)}
        (item,) = Threshold(Candidates((layer,), PATTERN, {}), 0.25).plan(saliency).sparse()
        better = chosen(choice, known, weight, item)
        ratios.append(lost(known, judged, weight, better) / lost(known, judged, weight, item))
    assert np.mean(ratios) < 0.95 and max(ratios) < 1.02


def test_the_cost_of_a_block_is_what_a_plain_refit_without_it_loses():
    rows, columns, block = 8, 24, 8
    random = np.random.default_rng(3)
    x = random.standard_normal((200, columns)) @ random.standard_normal((columns, columns))
    weight = random.standard_normal((columns, rows))
    gram = torch.from_numpy(x.T @ x)
    costs = _removal(torch.linalg.inv(gram), torch.from_numpy(weight), block)
    for number in range(columns // block):
        left = [c for c in range(columns) if c // block != number]
        refit = np.linalg.lstsq(x[:, left], x @ weight, rcond=None)[0]
        assert float(costs[0, number]) == pytest.approx(np.square(x[:, left] @ refit - x @ weight).sum(), rel=1e-6)


def test_the_nearest_mask_keeps_most_of_all_masks_of_the_pattern():
    """Against every choice of pairs and blocks of one block row."""
    item = planned_layer(8, 16, 0.25, 0)
    assert item.kept.shape == (1, 1)
    worth = np.random.default_rng(1).random((8, 16))
    mask, blocks = nearest(worth, item)
    best = 0.0
    for block in range(2):
        total = 0.0
        for group in range(2):
            rows = worth[4 * group : 4 * group + 4, 8 * block : 8 * block + 8].sum(0).reshape(2, 4)
            total += np.sort(rows, axis=1)[:, 2:].sum()
        best = max(best, total)
    assert (worth * mask).sum() == pytest.approx(best)
    assert blocks.shape == (1, 1)


def test_a_layer_that_sees_nothing_keeps_its_planned_masks():
    item = planned_layer(8, 16, 0.25, 0)
    known = evidence(16, 8, centred=True, device=torch.device("cpu"))
    known.add(torch.zeros(20, 16), torch.zeros(20, 8))
    for choice in CHOICES:
        assert chosen(choice, known, torch.ones(8, 16, dtype=torch.float64), item) is item
