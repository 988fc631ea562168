"""The knapsack against brute force, and plans steered by a target."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser, save

from crisp_onnx.cost.knapsack import GRID, Option, solve
from crisp_onnx.cost.rewarded import rewarded_pattern
from crisp_onnx.cost.steer import Objective, Steered
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import load_target, lower
from crisp_onnx.masks import Candidates, Curve, Plan, Threshold
from crisp_onnx.model import Model, load, tensor_shapes, weight_layers

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,32,28,28] x) => (float[1,32,28,28] y)
<float[64,32,3,3] w0, float[128,64,3,3] w1, float[128,128,3,3] w2, float[32,128,1,1] w3>
{
  a = Conv <pads = [1,1,1,1]> (x, w0)
  b = Conv <pads = [1,1,1,1]> (a, w1)
  c = Conv <pads = [1,1,1,1]> (b, w2)
  y = Conv (c, w3)
}
"""
Saliency = dict[str, npt.NDArray[np.float32]]
values = st.integers(0, 100).map(float)
costs = st.integers(0, 500).map(lambda hundredths: hundredths / 100)
options = st.lists(st.builds(Option, st.just(1), values, costs), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(st.lists(options, min_size=1, max_size=4), st.floats(0, 1))
def test_the_knapsack_is_within_its_grid_of_the_best_there_is(layers: list[list[Option]], share: float) -> None:
    least = sum(min(o.cost for o in layer) for layer in layers)
    most = sum(max(o.cost for o in layer) for layer in layers)
    budget = least + share * (most - least)
    found = solve(layers, budget)
    assert sum(o.cost for o in found) <= budget + 1e-9
    # Rounding costs up can take one grid step a layer; the best under that smaller budget must be reached.
    sure = budget - len(layers) * (budget - least) / GRID
    best = max(
        (sum(o.value for o in pick) for pick in product(*layers) if sum(o.cost for o in pick) <= sure + 1e-12),
        default=0.0,
    )
    assert sum(o.value for o in found) >= best - 1e-9


def test_choices_that_only_just_fit_are_found_though_the_steps_hide_them() -> None:
    # Of the first layer's third cost and the second's first, the sum is the budget: each exceeds it when rounded up.
    first = [
        Option(None, 36.16, 0.113896),
        *(Option(k, v, c) for k, v, c in [(2, 18.6, 0.007486), (3, 22.6, 0.010728)]),
    ]
    second = [Option(None, 1.006, 0.007272), Option(1, 0.471, 0.004177), Option(2, 0.8, 0.004216)]
    found = solve([first, second], 0.010728 + 0.004177)
    assert [option.kept for option in found] == [3, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(options, min_size=2, max_size=4), st.data())
def test_no_change_of_two_layers_gains_anything_over_what_is_found(
    layers: list[list[Option]], data: st.DataObject
) -> None:
    budget = sum(data.draw(st.sampled_from(layer)).cost for layer in layers)  # one that some choice meets exactly
    found = solve(layers, budget)
    worth = sum(option.value for option in found)
    assert sum(option.cost for option in found) <= budget * (1 + 1e-9)
    for one, two in product(range(len(layers)), repeat=2):
        for mine, other in product(layers[one], layers[two]):
            pick = [*found]
            pick[two], pick[one] = other, mine
            if sum(option.cost for option in pick) <= budget:
                assert sum(option.value for option in pick) <= worth + 1e-9


def test_a_budget_below_the_cheapest_options_is_refused() -> None:
    with pytest.raises(CrispError, match="cannot be met"):
        solve([[Option(1, 1.0, 2.0)], [Option(1, 1.0, 3.0)]], 4.9)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Model:
    proto = parser.parse_model(NET)
    rng = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.value_info}
    del proto.graph.value_info[:]
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32) * np.float32(1 + 3 * (name == "w1"))
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    save(proto, path)
    return load(path)


PATTERN = Pattern(2, 4, 64, 1)


@pytest.fixture(scope="module")
def saliency(net: Model) -> Saliency:
    return {t.name: np.abs(numpy_helper.to_array(t)).astype(np.float32) for t in net.proto.graph.initializer}


@pytest.fixture(scope="module")
def dense(net: Model) -> Steered:
    """A planner whose limit is all that the dense model takes."""
    layers = weight_layers(net, tensor_shapes(net))
    candidates = Candidates(layers, PATTERN, {layer.name: layer.obstacle for layer in layers})
    planner = Steered(candidates, 1.0, "latency_ms", lower(net, "stc_edge_int8"), load_target("stc_edge_int8"))
    return replace(planner, limit=planner.cost(Plan()))


def worth(plan: Plan, saliency: Saliency) -> float:
    masks = plan.masks()
    return float(sum((value * masks.get(name, True)).sum() ** 0.5 for name, value in saliency.items()))


@pytest.mark.parametrize("share", [0.35, 0.5, 0.7, 0.95])
def test_a_steered_plan_meets_its_latency_and_keeps_the_first_layer_dense(
    dense: Steered, saliency: Saliency, share: float
) -> None:
    planner = replace(dense, limit=share * dense.limit)
    plan = planner.plan(saliency)
    spent = planner.spent(plan)
    assert spent.met and spent.reached == planner.cost(plan) <= planner.limit * (1 + 1e-9)
    assert "first convolution" in plan.layers[0].reason  # type: ignore[union-attr]
    for sparse in plan.sparse():
        assert sparse.mask.shape == sparse.layer.shape
        assert sparse.kept.shape[0] == -(-sparse.layer.shape[0] // PATTERN.block)


def test_a_budget_of_the_dense_model_leaves_everything_dense(dense: Steered, saliency: Saliency) -> None:
    assert not list(replace(dense, limit=1.01 * dense.limit).plan(saliency).sparse())


@pytest.mark.parametrize("sparsity", [0.7, 0.85])
def test_steering_is_worth_no_less_than_the_global_threshold_at_its_latency(
    dense: Steered, saliency: Saliency, sparsity: float
) -> None:
    threshold = Threshold(dense.candidates, 1 - sparsity, floor=0.0).plan(saliency)
    plan = replace(dense, limit=dense.cost(threshold)).plan(saliency)
    assert worth(plan, saliency) >= worth(threshold, saliency) * (1 - 1e-6)


@pytest.mark.parametrize("of", ["latency_ms", "energy_mj"])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), sparsity=st.floats(0.55, 0.93))
@example(seed=255, sparsity=0.8359375)  # whose threshold costs exactly the limit
def test_by_measured_losses_steering_loses_no_more_than_the_threshold_that_costs_as_much(
    dense: Steered, saliency: Saliency, of: Objective, seed: int, sparsity: float
) -> None:
    rng = np.random.default_rng(seed)
    columns = {layer.name: PATTERN.block_columns(layer.shape) for layer in dense.candidates.free}
    curves = {
        name: Curve(np.sort(rng.pareto(1.0, count) * 10.0 ** rng.integers(-3, 3)), float(rng.random()))
        for name, count in columns.items()
    }
    threshold = Threshold(dense.candidates, 1 - sparsity).measured(curves).plan(saliency)
    planner = replace(dense, of=of)
    limit = planner.cost(threshold)
    plan = replace(planner, limit=limit).measured(curves).plan(saliency)
    assert planner.cost(plan) <= limit * (1 + 1e-9)
    assert lost(plan, curves) <= lost(threshold, curves) * (1 + 1e-3)


def lost(plan: Plan, curves: dict[str, Curve]) -> float:
    """What the layers lose together by their curves; the first of its gains is the first to go."""
    kept = {sparse.layer.name: sparse.kept.shape[1] for sparse in plan.sparse()}
    return sum(
        float(curve.gains[: len(curve.gains) - kept[name]].sum()) + curve.rest
        for name, curve in curves.items()
        if name in kept
    )


def test_a_layer_of_little_saliency_is_not_starved_for_the_others(dense: Steered, saliency: Saliency) -> None:
    faint = {name: value * (0.05 if name == "w1" else 1) for name, value in saliency.items()}
    plan = replace(dense, limit=0.4 * dense.limit).plan(faint)
    kept = {sparse.layer.weight: sparse.density for sparse in plan.sparse()}
    assert kept["w1"] > 0.3 * kept["w2"]


def test_an_energy_budget_is_met_where_the_target_knows_energy(dense: Steered, saliency: Saliency) -> None:
    energy = replace(dense, of="energy_mj")
    planner = replace(energy, limit=0.6 * energy.cost(Plan()))
    assert planner.spent(planner.plan(saliency)).met
    assert planner.cost(planner.plan(saliency)) <= planner.limit * (1 + 1e-9)


def test_a_loosened_plan_goes_from_n_m_alone_to_the_steered_one(dense: Steered, saliency: Saliency) -> None:
    planner = replace(dense, limit=0.5 * dense.limit)
    plans = [planner.loosened(share).plan(saliency) for share in (1, 0.5, 0)]
    assert plans[0].sparsity == pytest.approx(0.5, abs=0.01)
    assert plans[0].sparsity < plans[1].sparsity < plans[2].sparsity
    names = [[sparse.layer.name for sparse in plan.sparse()] for plan in plans]
    assert names[0] == names[1] == names[2]
    assert planner.loosened(0.5).loosened(0.5).plan(saliency).sparsity < plans[1].sparsity
    assert planner.loosened(0.5).spent(plans[2]) == planner.spent(plans[2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_saliency_that_is_not_finite_is_refused(dense: Steered, saliency: Saliency, bad: float) -> None:
    with pytest.raises(CrispError, match=r"saliency of layer .* is not finite"):
        replace(dense, limit=0.5 * dense.limit).plan(saliency | {"w1": saliency["w1"] * np.float32(bad)})


REWARDED = {
    "stc_edge_int8": Pattern(2, 4, 64, 1),
    "x86_avx512": Pattern(2, 4, 16, 8),
    "arm_cortex_a76": Pattern(2, 4, 16, 8),
    "nvidia_a100": Pattern(2, 4, 16, 1),
    "arm_ethos_u65": Pattern(2, 4, 16, 1),
}


@pytest.mark.parametrize("name", sorted(REWARDED))
def test_the_target_says_which_pattern_it_rewards(name: str) -> None:
    pattern, why = rewarded_pattern(load_target(name))
    assert pattern == REWARDED[name]
    assert name in why


def test_a_target_that_skips_nothing_refuses_to_steer() -> None:
    with pytest.raises(CrispError, match="skips no zeros"):
        rewarded_pattern(load_target("coral_edge_tpu"))


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_a_limit_that_is_no_number_above_zero_is_refused(dense: Steered, limit: float) -> None:
    with pytest.raises(CrispError, match=r"--latency-ms .* is out of range"):
        replace(dense, limit=limit)
