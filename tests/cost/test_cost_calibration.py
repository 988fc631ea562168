"""Calibration: synthetic networks are sound, the fit finds a known law again, the written target says what it is."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from crisp_onnx.api import hardware
from crisp_onnx.api.hardware import calibrate as write_calibration
from crisp_onnx.api.steering import with_rewarded_pattern
from crisp_onnx.cost import estimate
from crisp_onnx.cost.calibrate import steady as steady_module
from crisp_onnx.cost.calibrate.fit import fit_kinds, fit_runs, nonnegative, predict_us
from crisp_onnx.cost.calibrate.forms import FORMS
from crisp_onnx.cost.calibrate.hybrid import hybrid_network
from crisp_onnx.cost.calibrate.machine import Machine, this_machine
from crisp_onnx.cost.calibrate.profile import Profile, TimedNode
from crisp_onnx.cost.calibrate.run import calibrate, fit_all, measure
from crisp_onnx.cost.calibrate.samples import Measured, Sample, pair
from crisp_onnx.cost.calibrate.synthetic import synthetic_network
from crisp_onnx.cost.calibrate.times import Times, read_times, times_text
from crisp_onnx.cost.calibrate.write import target_text
from crisp_onnx.cost.layer import cost_layer
from crisp_onnx.cost.steer import Steered
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import load_target, lower
from crisp_onnx.lowering.layout import LAYOUT, with_layout_changes
from crisp_onnx.lowering.lowered import LoweredOp
from crisp_onnx.lowering.timing import PARTS, fetched_share, timing_kind, weight_bytes, work
from crisp_onnx.masks import Candidates, Plan
from crisp_onnx.model import save, tensor_shapes, weight_layers
from crisp_onnx.recipe import Recipe
from crisp_onnx.runtime.library import Library, load_library

MACHINE = Machine("a processor: made up", "performance", 16, 32 << 20)
TRUE_US = np.array([3.0, 2e-5, 0.0, 1e-5, 4e-6, 8e-6, 0.0, 6e-6, 3e-5, 1e-3])
BANDWIDTH = 1e6 / TRUE_US[PARTS.index("far_weight_byte")]  # the law's weights come at the memory's pace
TIMES = Times(MACHINE, 1, "1.31.1", "2026-11-27", BANDWIDTH, {})


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    """Networks whose layers take exactly what a known law says."""
    base, found = load_target("x86_avx2"), []
    for seed in range(30):
        network = synthetic_network(seed)
        on_bytes = ("int8", "hybrid int8") if seed % 5 == 1 else ()
        for name in ("dense", *(["hybrid"] if seed % 2 == 0 else []), *on_bytes):
            model = FORMS[name](network, seed)
            if model is None:
                continue
            operators = lower(model, base).operators
            weights = weight_bytes(operators)
            fetched = fetched_share(weights, MACHINE.cache_bytes)
            samples = tuple(
                Sample(f"{name} {seed}", op, float(np.dot(work(op, 16, fetched), TRUE_US)), weights) for op in operators
            )
            whole_us = sum(s.time_us for s in samples) + 7 + 0.5 * len(samples)
            found.append(Measured(f"{name} {seed}", samples, whole_us / 1e3))
    return found


@pytest.mark.parametrize("seed", range(0, 30, 7))
def test_synthetic_networks_run_and_repeat(seed: int) -> None:
    first, second = synthetic_network(seed), synthetic_network(seed)
    assert first.proto.SerializeToString() == second.proto.SerializeToString()
    lowered = lower(first, "x86_avx2", dtype="fp32")
    assert lowered.notes == ()
    assert 4 < len(lowered.operators) < 60
    assert max(op.matrix.macs for op in lowered.operators if op.matrix) < 2e9


def test_every_profiled_operator_is_booked_to_its_layer_and_layout_changes_to_the_tensor_of_their_size() -> None:
    model, base = hybrid_network(synthetic_network(16), 16), load_target("x86_avx2")
    assert model is not None
    operators = with_layout_changes(lower(model, base).operators, 16)
    expected = {op.name: 10.0 + place for place, op in enumerate(operators)}
    changes = [op for op in operators if op.op == LAYOUT]
    assert changes
    nodes: dict[str, TimedNode] = {}
    late: list[LoweredOp] = []
    for op in operators:
        if op.op == LAYOUT:
            late.append(op)
            continue
        nodes[op.name] = TimedNode(op.op, expected[op.name], op.output_bytes)
        for change in late:  # the runtime changes a tensor's layout when it is wanted, after other operators perhaps
            found_as = TimedNode("ReorderInput", expected[change.name], change.output_bytes)
            nodes[f"Reorder of {change.name}"] = found_as
        late = []
    nodes["Reorder of nothing known"] = TimedNode("ReorderOutput", 5.0, 1)
    found = pair(model, "net", base, Profile(nodes, 1.0), granule=16)
    last = operators[-1].name
    booked = {sample.op.name: sample.time_us for sample in found.samples}
    assert booked == {**expected, last: expected[last] + 5.0}


def test_the_fit_finds_the_parts_of_a_known_law_again(measured: list[Measured]) -> None:
    fits = fit_kinds([s for m in measured for s in m.samples], MACHINE, BANDWIDTH)
    assert {"conv_1x1", "conv_kxk_unaligned", "conv_first", "hybrid_kxk", "gemv", "global_pool"} <= set(fits)
    assert {"int8_conv_1x1", "int8_conv_kxk", "int8_conv_first", "int8_hybrid_kxk", "int8_hybrid_1x1"} <= set(fits)
    for sample in (s for m in measured for s in m.samples):
        found = predict_us(sample, fits, MACHINE)
        if found is not None:
            assert found == pytest.approx(sample.time_us, rel=0.02)


def test_what_runs_take_beside_their_layers_is_found(measured: list[Measured]) -> None:
    runs = fit_runs(measured)
    assert runs.per_run_us == pytest.approx(7, rel=0.05)
    assert runs.per_layer_us == pytest.approx(0.5, rel=0.05)


def test_a_few_wild_measurements_do_not_bend_the_fit(measured: list[Measured]) -> None:
    rng = np.random.default_rng(0)
    samples = [
        Sample(s.network, s.op, s.time_us * (4 if rng.random() < 0.08 else 1), s.model_weight_bytes)
        for m in measured
        for s in m.samples
    ]
    fits = fit_kinds(samples, MACHINE, BANDWIDTH)
    errors = [
        abs((predict_us(s, fits, MACHINE) or s.time_us) / s.time_us - 1)
        for m in measured
        for s in m.samples
        if timing_kind(s.op, 16).startswith("conv")
    ]
    assert np.median(errors) < 0.05


def test_noisy_layers_of_few_weights_leave_their_bytes_at_the_memorys_bandwidth(measured: list[Measured]) -> None:
    rng = np.random.default_rng(0)
    light = [s for m in measured for s in m.samples if timing_kind(s.op, 16) == "hybrid_1x1"]
    noisy = [Sample(s.network, s.op, s.time_us * rng.uniform(0.7, 1.6), s.model_weight_bytes) for s in light]
    fit = fit_kinds(noisy, MACHINE, BANDWIDTH)["hybrid_1x1"]
    near, far = (fit.parts_us[PARTS.index(part)] for part in ("weight_byte", "far_weight_byte"))
    assert near + far == pytest.approx(1e6 / BANDWIDTH, rel=0.5)


def test_the_written_target_predicts_the_law_and_says_what_it_is(measured: list[Measured], tmp_path: Path) -> None:
    found = fit_all("mine", measured, TIMES)
    path = tmp_path / "mine.yaml"
    path.write_text(target_text(found))
    target = load_target(path)
    calibration = target.descriptor.calibration
    assert calibration is not None
    assert (calibration.cpu, calibration.threads) == (MACHINE.cpu, 1)
    assert calibration.median_error_percent < 1
    assert {leaf.quantity.prov for leaf in target.leaves()} >= {"measured", "fitted"}
    network = measured[0]
    model = synthetic_network(0)
    predicted = estimate(lower(model, target), target).as_is.latency_ms
    assert predicted == pytest.approx(network.whole_ms, rel=0.03)


def test_the_written_target_costs_layers_on_bytes_by_the_times_of_bytes(
    measured: list[Measured], tmp_path: Path
) -> None:
    found = fit_all("mine", measured, TIMES)
    path = tmp_path / "mine.yaml"
    path.write_text(target_text(found))
    target = load_target(path)
    assert target.descriptor.dtypes == ("fp32", "int8")
    layers = [s for m in measured for s in m.samples if timing_kind(s.op, 16).startswith("int8")]
    products = [s for s in layers if s.op.matrix is not None and timing_kind(s.op, 16) in found.kinds]
    assert len(products) > 30
    for sample in products:
        cost = cost_layer(sample.op, target, model_weight_bytes=sample.model_weight_bytes)
        assert cost.latency_ms * 1e3 == pytest.approx(sample.time_us + found.runs.per_layer_us, rel=0.1)


def test_a_target_measured_on_another_processor_says_so_where_it_is_used(
    measured: list[Measured], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = tmp_path / "mine.yaml", tmp_path / "net.onnx"
    path.write_text(target_text(fit_all("mine", measured, TIMES)))
    save(synthetic_network(2), model)
    recipe = Recipe(model=model, classes=("0",), target=str(path))
    foreign = "was measured on a processor: made up"
    assert any(foreign in note for note in hardware.estimate(model, path).estimate.notes)
    assert any(foreign in note for note in with_rewarded_pattern(recipe)[1])
    monkeypatch.setattr("crisp_onnx.cost.calibrate.machine.this_machine", lambda: MACHINE)
    assert not any(foreign in note for note in hardware.estimate(model, path).estimate.notes)
    assert not any(foreign in note for note in with_rewarded_pattern(recipe)[1])


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_a_steered_plan_meets_its_latency_on_a_measured_processor_layout_changes_included(
    measured: list[Measured], tmp_path: Path, share: float
) -> None:
    path, model = tmp_path / "mine.yaml", synthetic_network(2)
    path.write_text(target_text(fit_all("mine", measured, TIMES)))
    target = load_target(path)
    lowered, layers = lower(model, target), weight_layers(model, tensor_shapes(model))
    stored = {tensor.name: np.abs(numpy_helper.to_array(tensor)) for tensor in model.proto.graph.initializer}
    saliency = {layer.weight: layer.matrix(stored[layer.weight]) for layer in layers}
    reasons = {layer.name: layer.obstacle for layer in layers}
    planner = Steered(Candidates(layers, Pattern(2, 4, 16, 8), reasons), 1.0, "latency_ms", lowered, target)
    limit = share * planner.cost(Plan())
    assert 0 < planner.cost(replace(planner, limit=limit).plan(saliency)) <= limit * (1 + 1e-9)


def test_a_layer_of_a_larger_model_fetches_more_of_its_weights_and_alone_it_is_a_model_of_its_own(
    measured: list[Measured], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(target_text(fit_all("mine", measured, TIMES)))
    target = load_target(path)
    operators = lower(synthetic_network(2), target).operators
    heavy = max(operators, key=lambda op: weight_bytes([op]) if op.matrix and op.matrix.N > 8 else 0)
    alone = cost_layer(heavy, target).latency_ms
    assert alone == cost_layer(heavy, target, model_weight_bytes=weight_bytes([heavy])).latency_ms
    assert alone < cost_layer(heavy, target, model_weight_bytes=100 * weight_bytes([heavy])).latency_ms


def test_hybrid_operators_gain_nothing_where_the_kernels_were_not_measured(
    measured: list[Measured], tmp_path: Path
) -> None:
    dense = [m for m in measured if m.network.startswith("dense")]
    path = tmp_path / "mine.yaml"
    path.write_text(target_text(fit_all("mine", dense, TIMES)))
    target = load_target(path)
    sparse = hybrid_network(synthetic_network(2), 2)
    assert sparse is not None
    assert estimate(lower(sparse, target), target).speedup == pytest.approx(1)


def test_too_few_networks_are_refused(measured: list[Measured]) -> None:
    with pytest.raises(CrispError, match="too few"):
        fit_all("mine", measured[:1], TIMES)


def test_a_short_calibration_of_this_machine_gives_a_target_that_loads(tmp_path: Path) -> None:
    times = measure(threads=1, networks=10, budget_s=0.01)
    kept = tmp_path / "times.json"
    kept.write_text(times_text(times))
    assert read_times(kept) == times
    found = calibrate("quick", times)
    path = tmp_path / "quick.yaml"
    path.write_text(target_text(found))
    assert load_target(path).descriptor.timing is not None
    assert found.accuracy.layers_held_out > 10
    assert this_machine().granule in (4, 8, 16)


def test_a_target_is_only_written_to_yaml(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"end in \.yaml"):
        write_calibration(tmp_path / "mine.json")


@pytest.mark.parametrize("installed", [Path("kernels.so"), None])
def test_the_installed_kernels_are_measured_unless_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[Measured], installed: Path | None
) -> None:
    asked: list[Path | None] = []

    def measured_with(*, threads: int, networks: int, kernels: Path | None) -> Times:
        asked.append(kernels)
        return TIMES

    monkeypatch.setattr(hardware, "measure", measured_with)
    monkeypatch.setattr(hardware, "run_calibration", lambda name, times: fit_all(name, measured, times))
    monkeypatch.setattr(hardware, "load_library", lambda: Library(installed, None))
    write_calibration(tmp_path / "mine.yaml")
    own = load_library().path
    if own is None:
        pytest.skip("there is no library to name")
    write_calibration(tmp_path / "mine.yaml", kernels=own)
    assert asked == [installed, own]


def test_kept_times_are_fitted_again_without_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, output = tmp_path / "times.json", tmp_path / "mine.yaml"
    times = measure(threads=1, networks=10, budget_s=0.01)
    monkeypatch.setattr(hardware, "measure", lambda **_: times)
    write_calibration(output, times=kept)
    first = output.read_text()
    monkeypatch.delattr(hardware, "measure")
    write_calibration(output, times=kept)
    assert output.read_text() == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no file that"),
        ("{}", "machine"),
        ("[1]", "no file that"),
        ('{"machine": {"cpu": "x"}}', "governor"),
        (times_text(TIMES).replace("crisp-times/2", "crisp-times/1"), "key schema"),
    ],
)
def test_damaged_times_are_refused_before_anything_is_written(tmp_path: Path, text: str, words: str) -> None:
    kept, output = tmp_path / "times.json", tmp_path / "mine.yaml"
    kept.write_text(text)
    with pytest.raises(CrispError, match=words):
        write_calibration(output, times=kept)
    assert not output.exists()


@pytest.mark.parametrize("network", ["dense 0.5", "sparse 3", "dense", "dense -1"])
def test_times_of_networks_that_are_not_known_are_refused(network: str) -> None:
    with pytest.raises(CrispError, match="is not measured here"):
        calibrate("mine", replace(TIMES, profiles={network: Profile({}, 1.0)}))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_non_negative_least_squares_meets_its_optimality_conditions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, target = rng.random((12, 4)), rng.standard_normal(12)
    x = nonnegative(matrix, target)
    gradient = matrix.T @ (matrix @ x - target)
    assert (x >= 0).all()
    assert (gradient > -1e-5).all()
    assert np.abs(gradient * x).max() < 1e-5


def test_several_threads_are_timed_again_until_their_cores_stand_near(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, profiles = iter([60.0, 400.0, 70.0, 65.0]), iter([Profile({}, 9.0), Profile({}, 3.0)])
    monkeypatch.setattr(steady_module, "core_distance_ns", lambda threads: next(distances))
    assert steady_module.steady(lambda: next(profiles), 2, 60.0) == Profile({}, 3.0, 70.0)


def test_where_cores_stay_far_apart_the_nearest_of_three_times_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = iter([500.0, 400.0, 300.0, 310.0, 60.0, 450.0])
    profiles = iter([Profile({}, 9.0), Profile({}, 8.0), Profile({}, 7.0)])
    monkeypatch.setattr(steady_module, "core_distance_ns", lambda threads: next(distances))
    assert steady_module.steady(lambda: next(profiles), 2, 60.0) == Profile({}, 8.0, 310.0)


def test_one_thread_is_timed_once_and_no_distance_is_told() -> None:
    profiles = iter([Profile({}, 9.0)])
    assert steady_module.steady(lambda: next(profiles), 1, None) == Profile({}, 9.0)


def test_a_target_says_how_far_apart_the_cores_of_its_threads_stood(measured: list[Measured]) -> None:
    profiles = {f"dense {i}": Profile({}, 1.0, apart) for i, apart in enumerate((60.0, 70.0, 300.0, None))}
    times = read_again(replace(TIMES, threads=2, profiles=profiles))
    assert yaml.safe_load(target_text(fit_all("host", measured, times)))["calibration"]["cores_apart_ns"] == 70.0
    assert "cores_apart_ns" not in target_text(fit_all("host", measured, TIMES))


def read_again(times: Times) -> Times:
    """As a file keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        path.write_text(times_text(times))
        return read_times(path)
