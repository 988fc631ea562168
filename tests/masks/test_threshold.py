"""Plans over many layers: budgets are met, floors hold, and masks, formula and file count the same weights."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_onnx.errors import CrispError
from crisp_onnx.format import HYBRID_OPS, Pattern
from crisp_onnx.format.matrix import padded_matrix
from crisp_onnx.masks import FLOOR, Candidates, Plan, Threshold, reason_to_stay_dense
from crisp_onnx.masks.allocation import RankColumns, allocate
from crisp_onnx.masks.hybrid import block_sums
from crisp_onnx.model import WeightLayer, weight_layers
from crisp_onnx.passes import ApplyMasks, hybrid_passes, run_passes


def layer(name: str, cout: int, cin: int, side: int = 1, positions: int = 49, obstacle: str = "") -> WeightLayer:
    return WeightLayer(name, "Conv", f"{name}.w", (cout, cin, side, side), 1, False, positions, obstacle)


def resnet18(width: int, image: int) -> list[WeightLayer]:
    layers = [layer("stem", width, 3, 3, image**2, "first convolution")]
    for stage in range(4):
        cout, cin, positions = width << stage, width << max(0, stage - 1), (image >> stage) ** 2
        for number in range(4):
            layers.append(layer(f"s{stage}c{number}", cout, cin if number == 0 else cout, 3, positions))
        if stage:
            layers.append(layer(f"s{stage}down", cout, cin, 1, positions))
    return [*layers, layer("fc", 100, width << 3, 1, 1, "classifier")]


def mobilenet_v1() -> list[WeightLayer]:
    widths = [24, 48, 96, 96, 192, 192, *[384] * 6, 768, 768]
    layers = [layer("stem", 24, 3, 3, 112**2, "first convolution")]
    for number, (cin, cout) in enumerate(pairwise(widths)):
        layers.append(layer(f"pw{number}", cout, cin, 1, (112 >> min(4, number // 2)) ** 2))
    return [*layers, layer("fc", 1000, 768, 1, 1, "classifier")]


def resnet50() -> list[WeightLayer]:
    layers, cin = [layer("stem", 64, 3, 7, 112**2, "first convolution")], 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, positions = 64 << stage, (56 >> stage) ** 2
        for block in range(blocks):
            layers.append(layer(f"s{stage}b{block}a", width, cin, 1, positions))
            layers.append(layer(f"s{stage}b{block}b", width, width, 3, positions))
            layers.append(layer(f"s{stage}b{block}c", 4 * width, width, 1, positions))
            if block == 0:
                layers.append(layer(f"s{stage}down", 4 * width, cin, 1, positions))
            cin = 4 * width
    return [*layers, layer("fc", 1000, 2048, 1, 1, "classifier")]


SETS = {"resnet18w32": resnet18(32, 32), "mobilenet_v1": mobilenet_v1(), "resnet50": resnet50()}


def plan_of(layers, kept, of="weights", pattern=Pattern(), seed=0, floor=FLOOR, spread=2.0) -> Plan:  # noqa: B008
    rng = np.random.default_rng(seed)
    scale = {item.name: rng.lognormal(sigma=spread) for item in layers}
    saliency = {item.weight: (rng.random(item.shape, np.float32) * np.float32(scale[item.name])) for item in layers}
    reasons = {item.name: reason_to_stay_dense(item, pattern) for item in layers}
    return Threshold(Candidates(tuple(layers), pattern, reasons), kept, of, floor).plan(saliency)


@pytest.mark.parametrize("of", ["weights", "macs"])
def test_a_layer_keeps_no_more_blocks_than_it_may_and_the_others_make_up_for_it(of):
    layers = SETS["resnet18w32"]
    saliency = {item.weight: np.random.default_rng(1).random(item.shape, np.float32) for item in layers}
    candidates = Candidates(
        tuple(layers), Pattern(), {item.name: reason_to_stay_dense(item, Pattern()) for item in layers}
    )
    free = Threshold(candidates, 0.3, of).plan(saliency)
    largest = max(free.sparse(), key=lambda sparse: sparse.kept.shape[1])
    limit = {largest.layer.name: largest.kept.shape[1] // 2}
    planner = Threshold(replace(candidates, most_blocks=limit), 0.3, of)
    plan = planner.plan(saliency)
    kept = {sparse.layer.name: sparse.kept.shape[1] for sparse in plan.sparse()}
    assert kept[largest.layer.name] <= limit[largest.layer.name]
    assert planner.spent(plan).met
    assert any(kept[sparse.layer.name] > sparse.kept.shape[1] for sparse in free.sparse())


def test_limits_that_keep_less_than_the_budget_asks_for_are_all_used_and_the_budget_is_missed():
    layers = [layer("a", 64, 64), layer("b", 64, 64)]
    candidates = Candidates(tuple(layers), Pattern(), {}, {"a": 1, "b": 1})
    planner = Threshold(candidates, 0.4)
    plan = planner.plan({item.weight: np.ones(item.shape, np.float32) for item in layers})
    assert [sparse.kept.shape[1] for sparse in plan.sparse()] == [1, 1]
    assert not planner.spent(plan).met


def test_a_budget_is_met_where_no_column_more_or_less_would_come_nearer():
    only = layer("only", 32, 32, 3)  # 18 rank columns, each 2.8 % of the weights
    planner = Threshold(Candidates((only,), Pattern(), {}), 0.2)
    plan = planner.plan({only.weight: np.ones(only.shape, np.float32)})
    assert planner.spent(plan).reached == pytest.approx(0.8056, abs=1e-4)
    assert planner.spent(plan).met
    assert not planner.spent(
        Threshold(planner.candidates, 0.25).plan({only.weight: np.ones(only.shape, np.float32)})
    ).met


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sparsity", [0.6, 0.8, 0.875, 0.95])
def test_the_sparsity_asked_for_is_met_within_half_a_point(name, sparsity):
    plan = plan_of(SETS[name], 1 - sparsity)
    assert abs(plan.sparsity - sparsity) <= 0.005


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("share", [0.15, 0.2, 0.3, 0.5])
def test_the_share_of_macs_asked_for_is_met_within_half_a_point(name, share):
    plan = plan_of(SETS[name], share, "macs")
    assert abs(plan.kept_macs / plan.dense_macs - share) <= 0.005


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_no_layer_falls_under_half_of_the_uniform_share_nor_under_one_block(name, seed):
    sparsity = 0.9
    plan = plan_of(SETS[name], 1 - sparsity, seed=seed, spread=5.0)
    uniform = (1 - sparsity) / plan_pattern(plan).density
    for sparse in plan.sparse():
        columns = sparse.pattern.block_columns(sparse.layer.shape)
        assert sparse.kept.shape[1] >= max(1, FLOOR * uniform * columns - 1e-6)


def plan_pattern(plan: Plan) -> Pattern:
    return next(plan.sparse()).pattern


def test_without_a_floor_a_global_threshold_starves_layers_to_one_block():
    plan = plan_of(SETS["resnet18w32"], 0.1, floor=0.0, spread=5.0)
    assert min(sparse.kept.shape[1] for sparse in plan.sparse()) == 1


columns = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 50), st.integers(0, 9999)), min_size=1, max_size=6)


def ranked(specs) -> list[RankColumns]:
    return [
        RankColumns(np.sort(np.random.default_rng(seed).random(count)), np.full(count, float(cost)))
        for count, cost, seed in specs
    ]


@given(columns, st.floats(0.01, 1.0))
@settings(max_examples=200, deadline=None)
def test_what_is_kept_is_within_one_column_of_the_target_or_at_the_floor(specs, share):
    layers = ranked(specs)
    total = sum(item.cost.sum() for item in layers)
    keep = allocate(layers, share * total, floor=0.5)
    kept = sum(item.cost[0] * count for item, count in zip(layers, keep, strict=True))
    least = [max(1, int(np.ceil(0.5 * share * len(item.cost) - 1e-9))) for item in layers]
    assert all(low <= count <= len(item.cost) for low, count, item in zip(least, keep, layers, strict=True))
    largest = max(item.cost[0] for item in layers)
    at_floor = all(count <= low + 1 for low, count in zip(least, keep, strict=True))
    assert abs(kept - share * total) <= largest / 2 + 1e-6 or at_floor


@given(columns, st.floats(0.05, 0.9), st.floats(0.0, 0.1))
@settings(max_examples=200, deadline=None)
def test_a_smaller_target_never_keeps_more(specs, share, less):
    layers = ranked(specs)
    total = sum(item.cost.sum() for item in layers)
    targets = (share * total, (share - less * share) * total)
    many, few = (allocate(layers, target, floor=0.0) for target in targets)
    assert all(b <= a for a, b in zip(many, few, strict=True))
    # The floor sinks with the target, so one layer may gain what another lost, but not the whole.
    many, few = (allocate(layers, target, floor=0.5) for target in targets)
    gained = sum(item.cost[0] * (b - a) for item, a, b in zip(layers, many, few, strict=True))
    assert gained <= max(item.cost[0] for item in layers)


@given(columns, st.floats(0.05, 0.95))
@settings(max_examples=200, deadline=None)
def test_settling_comes_nearer_to_the_target_and_respects_the_floor(specs, share):
    layers = ranked(specs)
    target = share * sum(item.cost.sum() for item in layers)
    coarse, fine = (allocate(layers, target, floor=0.5, tolerance=t) for t in (np.inf, 0.0))

    def off(keep):
        return abs(sum(item.cost[0] * count for item, count in zip(layers, keep, strict=True)) - target)

    assert off(fine) <= off(coarse) + 1e-9
    least = [max(1, int(np.ceil(0.5 * share * len(item.cost) - 1e-9))) for item in layers]
    assert all(low <= count <= len(item.cost) for low, count, item in zip(least, fine, layers, strict=True))


def test_the_cheapest_saliency_per_weight_goes_first():
    cheap = RankColumns(np.array([1.0, 1.0, 1.0, 1.0]), np.full(4, 10.0))
    dear = RankColumns(np.array([0.5, 0.6, 0.7, 0.8]), np.full(4, 1.0))
    assert allocate([cheap, dear], 24.0, floor=0.0) == [2, 4]


@given(st.integers(0, 99), st.floats(0.55, 0.97))
@settings(max_examples=40, deadline=None)
def test_formula_and_masks_count_the_same_weights_and_blocks(seed, sparsity):
    rng = np.random.default_rng(seed)
    layers = [
        layer(f"l{i}", int(rng.integers(16, 70)), int(rng.integers(16, 50)), int(rng.choice([1, 3]))) for i in range(4)
    ]
    plan = plan_of(layers, 1 - sparsity, seed=seed)
    for sparse in plan.sparse():
        blocks = block_sums(padded_matrix(sparse.mask, 16), 16)
        assert ((blocks > 0).sum(1) <= sparse.kept.shape[1]).all()
        outside = blocks.copy()
        np.put_along_axis(outside, sparse.kept.astype(np.int64), 0, 1)
        assert not outside.any()
        if sparse.layer.shape[0] % 16 == 0 and sparse.layer.weights // sparse.layer.shape[0] % 16 == 0:
            rows, kept = sparse.kept.shape
            assert sparse.kept_weights == rows * kept * 16 * 16 // 2
    kept = sum(int(mask.sum()) for mask in plan.masks().values())
    assert plan.sparsity == pytest.approx(1 - kept / sum(item.weights for item in layers))


def test_formula_masks_and_initializers_agree_to_the_integer(model_of):
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,48,8,8] y)"
        "<float[32,3,3,3] stem, float[48,32,3,3] w, float[40,48,1,1] v, float[48,40,1,1] u>"
        "{ a = Conv<pads=[1,1,1,1]>(x, stem) b = Conv<pads=[1,1,1,1]>(a, w) c = Conv(b, v) y = Conv(c, u) }"
    )
    layers = weight_layers(model)
    plan = plan_of(layers, 0.2)
    masked, hybrid = model.graph(), model.graph()
    ApplyMasks(plan).run(masked)
    run_passes(hybrid_passes(plan), hybrid)
    dense = {t.name: t.values for t in masked.tensors().values() if isinstance(t, gs.Constant)}
    nodes = {node.name: node for node in hybrid.nodes if node.op in HYBRID_OPS}
    assert len(nodes) == len(list(plan.sparse())) == 3
    for sparse in plan.sparse():
        stored = [tensor.values for tensor in list(nodes[sparse.layer.name].inputs)[1:4]]
        assert sum(part.nbytes for part in stored) == sparse.bytes
        assert np.count_nonzero(stored[0]) == np.count_nonzero(dense[sparse.layer.weight]) == sparse.kept_weights


def test_masks_follow_a_permutation_of_whole_block_rows():
    item = layer("one", 64, 48, 3)
    order = (np.array([2, 0, 3, 1])[:, None] * 16 + np.arange(16)).ravel()
    saliency = np.random.default_rng(0).random(item.shape)

    def mask(values):
        plan = Threshold(Candidates((item,), Pattern(), {}), 0.2).plan({"one.w": values})
        return plan.masks()["one.w"]

    assert np.array_equal(mask(saliency[order]), mask(saliency)[order])


def test_scaling_a_layer_changes_allocation_only_through_its_saliency():
    layers = (layer("a", 64, 64, 3), layer("b", 64, 64, 3))
    rng = np.random.default_rng(0)
    saliency = {item.weight: rng.random(item.shape) for item in layers}
    planner = Threshold(Candidates(layers, Pattern(), {}), 0.2)
    even = planner.plan(saliency)
    loud = planner.plan(saliency | {"a.w": saliency["a.w"] * 10})
    assert loud.layers[0].kept.shape[1] > even.layers[0].kept.shape[1]
    assert loud.layers[1].kept.shape[1] < even.layers[1].kept.shape[1]


def test_a_layer_of_unknown_size_counts_as_one_position():
    plan = plan_of([layer("a", 64, 64, 3, 100), WeightLayer("b", "Conv", "b.w", (64, 64, 1, 1), 1, False, None, "")],
                   0.3, "macs")  # fmt: skip
    assert plan.dense_macs == 64 * 64 * 9 * 100 + 64 * 64


@pytest.mark.parametrize(
    ("kept", "of", "message"),
    [
        (-0.2, "weights", "--sparsity 1.2 is out of range"),
        (0.0, "weights", "--sparsity 1 is out of range"),
        (1.5, "macs", "--macs 1.5 is out of range"),
        (float("nan"), "macs", "--macs nan is out of range"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(kept, of, message):
    with pytest.raises(CrispError, match=message):
        Threshold(Candidates((), Pattern(), {}), kept, of)


IMPOSSIBLE = [
    (
        [layer("a", 64, 64)],
        (0.6, "weights"),
        "--sparsity 0.4 keeps more than pattern 2:4 does. Ask for at least 0.5",
    ),
    ([layer("a", 64, 64)], (0.9, "macs"), "--macs 0.9 keeps more than pattern 2:4 does. Ask for at most 0.5"),
    ([layer("a", 64, 64), layer("b", 8, 8, 1, 10_000)], (0.1, "macs"), "what stays dense needs 0.761"),
    ([layer("a", 8, 8), layer("b", 64, 64, obstacle="why")], (0.2, "weights"), "No prunable layer: smaller than"),
    ([], (0.2, "weights"), "No prunable layer: it holds no Conv"),
]


@pytest.mark.parametrize(("layers", "budget", "message"), IMPOSSIBLE)
def test_budgets_that_cannot_be_met_are_refused(layers, budget, message):
    with pytest.raises(CrispError, match=re.escape(message)):
        plan_of(layers, *budget)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e306])
def test_a_saliency_that_is_not_finite_is_refused(bad):
    saliency = np.ones((64, 64, 1, 1))
    saliency[3, 4] = bad
    with pytest.raises(CrispError, match="saliency of layer 'a' is not finite"):
        Threshold(Candidates((layer("a", 64, 64),), Pattern(), {}), 0.2).plan({"a.w": saliency})


@pytest.mark.parametrize(("kept", "of"), [(0.1, "weights"), (0.7, "weights"), (0.2, "macs")])
def test_a_loosened_threshold_goes_from_n_m_alone_to_the_budget(kept, of):
    layers = SETS["resnet18w32"]
    reasons = {item.name: item.obstacle for item in layers}
    planner = Threshold(Candidates(tuple(layers), Pattern(3, 4, 16, 8), reasons), kept, of)
    saliency = {item.weight: np.random.default_rng(1).random(item.shape) for item in layers}
    plans = [planner.loosened(share).plan(saliency) for share in (1, 0.5, 0)]
    sparsities = [plan.sparsity for plan in plans]
    assert sparsities[0] == pytest.approx(0.25, abs=0.005)
    assert sparsities == sorted(sparsities)
    assert planner.loosened(0) == planner
    assert [planner.spent(plan).met for plan in plans] == [False, False, True]


def test_macs_are_loosened_to_what_n_m_leaves_however_much_stays_dense():
    """Where dense layers hold most of the MACs, the pattern's own density is a budget that cannot be met."""
    layers = (layer("a", 64, 64, positions=100), layer("wide", 8, 8, positions=60_000))
    planner = Threshold(Candidates(layers, Pattern(), {"wide": "smaller than one block"}), 0.93, "macs")
    saliency = {"a.w": np.random.default_rng(1).random((64, 64, 1, 1))}
    assert planner.loosened(1).plan(saliency).sparsity == pytest.approx(0.5)


small = st.builds(
    lambda number, cout, cin, side, positions: layer(f"l{number}", cout, cin, side, positions),
    st.integers(0, 10**6), st.integers(1, 70), st.integers(1, 40), st.integers(1, 3), st.none() | st.integers(0, 999),
)  # fmt: skip


@st.composite
def patterns(draw):
    m = draw(st.integers(1, 16))
    block = m * draw(st.integers(1, 5))
    rows = [v for v in (1, 2, 4, 8, 16) if block % v == 0]
    return Pattern(draw(st.integers(1, m)), m, block, draw(st.sampled_from(rows)))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(small, max_size=4, unique_by=lambda item: item.name),
    patterns(),
    st.sampled_from([1e-300, 1e-6, 0.1, 0.3, 0.5, 0.9, 1.0]),
    st.sampled_from(["weights", "macs"]),
    st.sampled_from([0.0, 1e-44, 1.0, 1e30, 3e38]),
    st.floats(0, 1),
)
def test_any_layers_pattern_and_budget_give_a_sound_plan_or_a_sentence(layers, pattern, kept, of, scale, loose):
    reasons = {item.name: reason_to_stay_dense(item, pattern) for item in layers}
    rng = np.random.default_rng(len(layers))
    saliency = {item.weight: (rng.random(item.shape) * scale).astype(np.float32) for item in layers}
    planner = Threshold(Candidates(tuple(layers), pattern, reasons), kept, of)
    for chooser in (planner, planner.loosened(loose)):
        try:
            plan = chooser.plan(saliency)
        except CrispError as error:
            assert str(error).endswith((".", "?"))
            continue
        assert [decision.layer for decision in plan.layers] == layers
        assert np.isfinite(planner.spent(plan).reached)
        for sparse in plan.sparse():
            columns = pattern.block_columns(sparse.layer.shape)
            assert (np.diff(sparse.kept, axis=1) > 0).all() and 0 <= sparse.kept.min() <= sparse.kept.max() < columns
            assert sparse.mask.shape == sparse.layer.shape and sparse.mask.any()


def test_two_layers_change_places_where_no_single_column_brings_the_budget_nearer() -> None:
    costly, cheap = RankColumns(np.full(3, 9.0), np.full(3, 4.0)), RankColumns(np.full(3, 1.0), np.full(3, 3.0))
    assert allocate([costly, cheap], 13, floor=0) == [3, 1]  # 15: greedy by saliency alone
    assert allocate([costly, cheap], 13, floor=0, tolerance=0.1, paired=True) == [1, 3]  # 13
