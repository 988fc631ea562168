"""The knapsack against brute force, and plans steered by a target."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser, save

from crisp_onnx.cost.knapsack import GRID, Option, solve
from crisp_onnx.cost.steer import TargetBudget, plan_cost, rewarded_pattern, steer
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.lower import Lowered, load_target, lower
from crisp_onnx.masks import Budget, Plan, choose
from crisp_onnx.model import Model, WeightLayer, load, tensor_shapes, weight_layers

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


@pytest.fixture(scope="module")
def asked(net: Model) -> tuple[tuple[WeightLayer, ...], Saliency, dict[str, str], Lowered]:
    layers = weight_layers(net, tensor_shapes(net))
    saliency = {t.name: np.abs(numpy_helper.to_array(t)).astype(np.float32) for t in net.proto.graph.initializer}
    return layers, saliency, {layer.name: layer.obstacle for layer in layers}, lower(net, "stc_edge_int8")


Asked = tuple[tuple[WeightLayer, ...], Saliency, dict[str, str], Lowered]
PATTERN = Pattern(2, 4, 64, 1)


def worth(plan: Plan, saliency: Saliency) -> float:
    masks = plan.masks()
    return float(sum((value * masks.get(name, True)).sum() ** 0.5 for name, value in saliency.items()))


@pytest.mark.parametrize("share", [0.35, 0.5, 0.7, 0.95])
def test_a_steered_plan_meets_its_latency_and_keeps_the_first_layer_dense(asked: Asked, share: float) -> None:
    layers, saliency, reasons, lowered = asked
    target = load_target("stc_edge_int8")
    budget = share * plan_cost(Plan(), lowered, target, "latency_ms")
    plan = steer(
        saliency,
        layers,
        PATTERN,
        TargetBudget(latency_ms=budget),
        lowered=lowered,
        target=target,
        dense_reasons=reasons,
    )
    assert plan_cost(plan, lowered, target, "latency_ms") <= budget * (1 + 1e-9)
    assert "first convolution" in plan.layers[0].reason  # type: ignore[union-attr]
    for sparse in plan.sparse():
        assert sparse.mask.shape == sparse.layer.shape
        assert sparse.kept.shape[0] == -(-sparse.layer.shape[0] // PATTERN.block)


def test_a_budget_of_the_dense_model_leaves_everything_dense(asked: Asked) -> None:
    layers, saliency, reasons, lowered = asked
    target = load_target("stc_edge_int8")
    budget = TargetBudget(latency_ms=1.01 * plan_cost(Plan(), lowered, target, "latency_ms"))
    plan = steer(saliency, layers, PATTERN, budget, lowered=lowered, target=target, dense_reasons=reasons)
    assert not list(plan.sparse())


@pytest.mark.parametrize("sparsity", [0.7, 0.85])
def test_steering_is_worth_no_less_than_the_global_threshold_at_its_latency(asked: Asked, sparsity: float) -> None:
    layers, saliency, reasons, lowered = asked
    target = load_target("stc_edge_int8")
    threshold = choose(saliency, layers, PATTERN, Budget(kept_weights=1 - sparsity), dense_reasons=reasons, floor=0.0)
    limit = plan_cost(threshold, lowered, target, "latency_ms")
    plan = steer(
        saliency,
        layers,
        PATTERN,
        TargetBudget(latency_ms=limit),
        lowered=lowered,
        target=target,
        dense_reasons=reasons,
    )
    assert worth(plan, saliency) >= worth(threshold, saliency) * (1 - 1e-6)


def test_a_layer_of_little_saliency_is_not_starved_for_the_others(asked: Asked) -> None:
    layers, saliency, reasons, lowered = asked
    target = load_target("stc_edge_int8")
    faint = {name: value * (0.05 if name == "w1" else 1) for name, value in saliency.items()}
    budget = TargetBudget(latency_ms=0.4 * plan_cost(Plan(), lowered, target, "latency_ms"))
    plan = steer(faint, layers, PATTERN, budget, lowered=lowered, target=target, dense_reasons=reasons)
    kept = {sparse.layer.weight: sparse.density for sparse in plan.sparse()}
    assert kept["w1"] > 0.3 * kept["w2"]


def test_an_energy_budget_is_met_where_the_target_knows_energy(asked: Asked) -> None:
    layers, saliency, reasons, lowered = asked
    target = load_target("stc_edge_int8")
    limit = 0.6 * plan_cost(Plan(), lowered, target, "energy_mj")
    plan = steer(
        saliency,
        layers,
        PATTERN,
        TargetBudget(energy_mj=limit),
        lowered=lowered,
        target=target,
        dense_reasons=reasons,
    )
    assert plan_cost(plan, lowered, target, "energy_mj") <= limit * (1 + 1e-9)


REWARDED = {
    "stc_edge_int8": Pattern(2, 4, 64, 1),
    "x86_avx512": Pattern(2, 4, 16, 8),
    "arm_cortex_a76": Pattern(4, 4, 16, 8),
    "nvidia_a100": Pattern(2, 4, 16, 1),
}


@pytest.mark.parametrize("name", sorted(REWARDED))
def test_the_target_says_which_pattern_it_rewards(name: str) -> None:
    pattern, why = rewarded_pattern(load_target(name))
    assert pattern == REWARDED[name]
    assert name in why


def test_a_target_that_skips_nothing_refuses_to_steer() -> None:
    with pytest.raises(CrispError, match="skips no zeros"):
        rewarded_pattern(load_target("coral_edge_tpu"))


def test_two_budgets_or_none_are_refused() -> None:
    with pytest.raises(CrispError, match="one budget"):
        TargetBudget()
    with pytest.raises(CrispError, match="one budget"):
        TargetBudget(latency_ms=1, energy_mj=1)
