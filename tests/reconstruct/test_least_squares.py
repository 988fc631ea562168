"""Whole networks re-fitted: against a plain least squares of numpy, and what must hold for every kind of layer."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import CHAIN, GEMM, RESIDUAL, TOKENS, Numbers, answer, pruned

from crisp_onnx.bridge import to_torch
from crisp_onnx.reconstruct.choices import CHOICES
from crisp_onnx.reconstruct.least_squares import least_squares
from crisp_onnx.recover import put_masks

NETWORKS = {
    "chain": (CHAIN, (3, 9, 9)),
    "residual": (RESIDUAL, (8, 6, 6)),
    "tokens": (TOKENS, (6, 8)),
    "gemm": (GEMM, (12,)),
}


def error(module, dense, x):
    wanted = answer(dense, x)
    return float(np.square(answer(module, x) - wanted).mean() / np.square(wanted - wanted.mean(0)).mean())


@pytest.fixture(params=NETWORKS)
def case(request, model_of):
    text, shape = NETWORKS[request.param]
    values = {"v": np.linspace(0.5, 2, 8)} if request.param == "residual" else {}
    return model_of(text, **values), shape


def refitted(model, shape, **options):
    module, plan = pruned(model)
    before = copy.deepcopy(module)
    found = least_squares(
        module, plan, Numbers(200, *shape, seed=1), Numbers(60, *shape, seed=2), batch_size=16, **options
    )
    return module, before, found.plan, found.fits


def test_unseen_answers_come_closer_to_the_dense_network(case):
    model, shape = case
    module, before, plan, fits = refitted(model, shape)
    x = Numbers(100, *shape, seed=3).x
    dense = to_torch(model)
    assert error(module, dense, x) < 0.8 * error(before, dense, x)
    assert {fit.layer for fit in fits} >= {sparse.layer.name for sparse in plan.sparse()}
    assert all(fit.after <= fit.before for fit in fits)


@pytest.mark.parametrize("choice", CHOICES)
def test_masks_hold_and_removed_weights_stay_behind_them(case, choice):
    model, shape = case
    module, before, plan, _ = refitted(model, shape, choice=choice)
    old, new = (dict(part.named_parameters()) for part in (before, module))
    put_masks(told := copy.deepcopy(before), plan)
    for sparse in plan.sparse():
        mask = module.masks[sparse.layer.weight]
        assert torch.equal(mask, told.masks[sparse.layer.weight])
        assert mask.sum() == before.masks[sparse.layer.weight].sum()
        assert choice != "saliency" or torch.equal(mask, before.masks[sparse.layer.weight])
        assert torch.equal(old[sparse.layer.weight][~mask], new[sparse.layer.weight][~mask])
        assert not torch.equal(old[sparse.layer.weight][mask], new[sparse.layer.weight][mask])


def test_a_layer_is_that_of_a_plain_least_squares_on_all_positions(model_of):
    model = model_of(RESIDUAL, v=np.linspace(0.5, 2, 8))
    module, plan = pruned(model, left={"one": "asked", "two": "asked", "zero": ""})
    images, judged = Numbers(300, 8, 6, 6, seed=1), Numbers(60, 8, 6, 6, seed=2)
    dense = to_torch(model)
    (sparse,) = plan.sparse()
    assert sparse.layer.name == "zero"
    fits = least_squares(module, plan, images, judged, choice="saliency", batch_size=32).fits
    x = torch.from_numpy(images.x)
    rows = torch.nn.functional.unfold(x, 3, padding=1).permute(0, 2, 1).reshape(-1, 72).double().numpy()
    with torch.no_grad():
        y = dense.run({"x": x}, ["a0"])["a0"].permute(0, 2, 3, 1).reshape(-1, 8).double().numpy()
    x_mean, y_mean = rows.mean(0), y.mean(0)
    old = dict(dense.named_parameters())["w0"].detach().double().numpy().reshape(8, 72)
    mask = sparse.mask.reshape(8, 72)
    centred = rows - x_mean
    pull = np.sqrt(len(rows) * fits[0].ridge * np.square(centred).mean())
    found = np.zeros_like(old)
    for row in range(8):
        q = np.flatnonzero(mask[row])
        a = np.concatenate([centred[:, q], pull * np.eye(len(q))])
        b = np.concatenate([y[:, row] - y_mean[row], pull * old[row, q]])
        found[row, q] = np.linalg.lstsq(a, b, rcond=None)[0]
    parameters = dict(module.named_parameters())
    weight = (parameters["w0"] * module.masks["w0"]).detach().numpy().reshape(8, 72)
    np.testing.assert_allclose(weight, found, atol=2e-3 * np.abs(found).max())
    np.testing.assert_allclose(parameters["b0"].detach(), y_mean - found @ x_mean, atol=2e-3)


def test_a_layer_before_a_sum_makes_up_for_what_the_other_branch_misses(model_of):
    """Of the branch alone all is right already; the sum is right only if the layer answers for the other branch too."""
    text = """(float[N,8] x) => (float[N,8] y) <float[8,8] w1, float[8] b1, float[8,8] w2, float[8] b2> {
        [one] a1 = Gemm(x, w1, b1)
        [two] a2 = Gemm(x, w2, b2)
        s = Add(a1, a2)
        y = Identity(s)
    }"""
    model = model_of(text)
    module, plan = pruned(model, left={"two": "asked"})
    found = least_squares(module, plan, Numbers(200, 8, seed=1), Numbers(50, 8, seed=2), batch_size=16)
    assert [fit.layer for fit in found.fits] == ["one", "two"]
    x = Numbers(100, 8, seed=3).x
    np.testing.assert_allclose(answer(module, x), answer(to_torch(model), x), atol=0.02)


def test_a_plan_that_keeps_everything_changes_nothing(model_of):
    model = model_of(CHAIN)
    module, plan = pruned(model, kept=0.3)
    plan = plan.under({item.layer.name: replace(item, mask=np.ones_like(item.mask)) for item in plan.sparse()})
    put_masks(module, plan)
    x = Numbers(20, 3, 9, 9, seed=3).x
    images, judged = Numbers(80, 3, 9, 9, seed=1), Numbers(40, 3, 9, 9, seed=2)
    least_squares(module, plan, images, judged, choice="saliency", batch_size=16)
    np.testing.assert_allclose(answer(module, x), answer(to_torch(model), x), atol=2e-3)


def test_the_answers_stay_in_training_mode(model_of):
    """BatchNorm takes the statistics of the batch there: of all the images, those that were fitted to."""
    module, *_ = refitted(model_of(RESIDUAL, v=np.linspace(0.5, 2, 8)), (8, 6, 6))
    x = Numbers(200, 8, 6, 6, seed=1).x
    wanted = answer(module, x)
    module.train()
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_a_file_that_takes_one_image_is_fitted_too(case):
    model, shape = case
    module, plan = pruned(model)
    before = copy.deepcopy(module)
    module.takes = 1
    least_squares(module, plan, Numbers(40, *shape, seed=1), Numbers(12, *shape, seed=2), batch_size=1)
    module.takes = None
    x = Numbers(50, *shape, seed=3).x
    dense = to_torch(model)
    assert error(module, dense, x) < error(before, dense, x)


def test_the_same_seed_gives_the_same_weights_and_little_memory_nearly_the_same(case, monkeypatch):
    model, shape = case
    first, *_ = refitted(model, shape)
    second, *_ = refitted(model, shape)
    monkeypatch.setattr("crisp_onnx.reconstruct.frontier.KEPT_BYTES", 1000)
    third, *_ = refitted(model, shape)
    for a, b, c in zip(first.parameters(), second.parameters(), third.parameters(), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=2e-2, atol=2e-2)
