"""Vendors' profiles: what each tool writes is read, and rates behind made-up times are found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import save

from crisp_onnx.api.hardware import calibrate_from_profile, estimate
from crisp_onnx.cli import cli
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target
from crisp_onnx.model import Model

SAMPLES = Path(__file__).parent / "data/profiles"
TENSORRT = [SAMPLES / "trtexec_profile.json", SAMPLES / "trtexec_layers.json"]
OPENVINO, NETS = "benchmark_app_detailed_counters.csv", "networks_summary_Ethos_U65_High_End.csv"
NET = """(float[1,16,28,28] x) => (float[1,64,28,28] y)
<float[32,16,3,3] w0, float[64,32,3,3] w1, float[64,64,3,3] w2, float[128,64,3,3] w3, float[128,128,3,3] w4,
 float[128,128,3,3] w5, float[64,128,3,3] w6>
{
  a = Conv <pads = [1,1,1,1]> (x, w0)
  b = Conv <pads = [1,1,1,1]> (a, w1)
  c = Conv <pads = [1,1,1,1]> (b, w2)
  d = Conv <pads = [1,1,1,1]> (c, w3)
  e = Conv <pads = [1,1,1,1]> (d, w4)
  f = Conv <pads = [1,1,1,1]> (e, w5)
  y = Conv <pads = [1,1,1,1]> (f, w6)
}
"""


@pytest.fixture
def net(model_of: Callable[[str], Model], tmp_path: Path) -> Path:
    proto = model_of(NET).proto
    for number, node in enumerate(proto.graph.node):
        node.name = f"c{number}"
    save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_tensorrt_gives_shapes_in_one_file_and_times_in_the_other(tmp_path: Path) -> None:
    found = calibrate_from_profile(tmp_path / "mine.yaml", TENSORRT, "nvidia_a100").found
    # The times were made with 40 % of the peak for 3x3 windows, 30 % for 1x1, and 6 us a layer, from plain counts of
    # MACs; the array rounds up to whole tiles, and what that adds is taken off the rates.
    assert 0.9 <= found.rates.efficiency["conv3x3"] / 0.4 <= 1
    assert 0.9 <= found.rates.efficiency["conv1x1"] / 0.3 <= 1
    assert 0 < found.rates.overhead_us <= 6
    assert (found.layers_fitted, found.layers_held_out, found.left_out) == (12, 4, 1)
    assert found.p90_error_percent < 3


def test_a_product_without_a_count_of_weights_is_no_layer_that_only_moves_data(tmp_path: Path) -> None:
    times, info = (json.loads(path.read_text()) for path in TENSORRT)
    shapes = [{"Dimensions": [1, 512, 512], "Format/Datatype": "Row major linear FP16 format"}]
    info["Layers"].append({"Name": "qk", "LayerType": "gemm", "Inputs": shapes, "Outputs": shapes})
    times.append({"name": "qk", "timeMs": 1, "averageMs": 1, "medianMs": 1, "percentage": 1})
    files = [tmp_path / "times.json", tmp_path / "layers.json"]
    for path, content in zip(files, (times, info), strict=True):
        path.write_text(json.dumps(content))
    plain, more = (calibrate_from_profile(tmp_path / "m.yaml", two, "nvidia_a100").found for two in (TENSORRT, files))
    assert more.rates == plain.rates
    assert more.left_out == plain.left_out + 1


def test_layers_in_a_type_that_the_target_does_not_have_tell_nothing_of_its_rates(tmp_path: Path) -> None:
    times, info = (json.loads(path.read_text()) for path in TENSORRT)
    slow = [{**entry, "name": f"slow {entry['name']}", "medianMs": 9.0} for entry in times if "name" in entry]
    floats = json.loads(json.dumps(info["Layers"]).replace("Int8", "FP32"))
    renamed = [{**entry, "Name": f"slow {entry['Name']}"} for entry in floats if entry.get("Weights")]
    files = [tmp_path / "times.json", tmp_path / "layers.json"]
    for path, content in zip(files, ([*times, *slow], {"Layers": [*info["Layers"], *renamed]}), strict=True):
        path.write_text(json.dumps(content))
    plain, more = (calibrate_from_profile(tmp_path / "m.yaml", two, "nvidia_a100").found for two in (TENSORRT, files))
    assert more.rates == plain.rates
    for path, content in zip(files, (slow, {"Layers": renamed}), strict=True):
        path.write_text(json.dumps(content))
    with pytest.raises(CrispError, match="compute in fp32, and nvidia_a100 in int8 and fp16 alone"):
        calibrate_from_profile(tmp_path / "m.yaml", files, "nvidia_a100")


def test_onnx_runtime_tells_all_by_itself(tmp_path: Path) -> None:
    found = calibrate_from_profile(tmp_path / "mine.yaml", [SAMPLES / "onnxruntime_profile.json"], "x86_avx512").found
    assert found.rates.efficiency["conv3x3"] == pytest.approx(0.6, rel=0.03)
    assert found.rates.efficiency["conv1x1"] == pytest.approx(0.5, rel=0.03)
    assert found.p90_error_percent < 3


def test_vela_gives_cycles_by_layer_and_by_network(tmp_path: Path) -> None:
    layers = calibrate_from_profile(tmp_path / "a.yaml", [SAMPLES / "network_per-layer.csv"], "arm_ethos_u65").found
    assert layers.layers_fitted == 24
    assert layers.p90_error_percent < 1  # a layer takes what its slowest part takes, as the tool says by itself
    assert (layers.rates.efficiency, layers.rates.bandwidth) == ({}, None)
    networks = calibrate_from_profile(tmp_path / "b.yaml", [SAMPLES / NETS], "arm_ethos_u65").found
    assert networks.rates.bandwidth == pytest.approx(0.99, abs=0.015)  # 11,110,016 bytes in 2,988,753 cycles, of 3.75
    assert networks.rates.overhead_us is None


@pytest.mark.parametrize("file", ["network_per-layer.csv", NETS])
def test_a_target_fitted_to_vela_takes_as_long_as_before_where_vela_is_its_model(
    net: Path, tmp_path: Path, file: str
) -> None:
    calibrate_from_profile(tmp_path / "mine.yaml", [SAMPLES / file], "arm_ethos_u65")
    before, after = (estimate(net, name).estimate for name in ("arm_ethos_u65", tmp_path / "mine.yaml"))
    assert after.as_is.latency_ms == pytest.approx(before.as_is.latency_ms, rel=0.02)


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
    ],
    ids=["semicolons and decimal commas", "lines of Windows", "a byte order mark"],
)
def test_tables_are_read_as_programs_of_other_countries_save_them(
    saved: Callable[[str], str], net: Path, tmp_path: Path
) -> None:
    for file, target in (("network_per-layer.csv", "arm_ethos_u65"), (OPENVINO, "x86_avx512"), (NETS, "arm_ethos_u65")):
        (tmp_path / "saved.csv").write_text(saved((SAMPLES / file).read_text()), newline="")
        rates = [
            calibrate_from_profile(tmp_path / "mine.yaml", [path], target, model=net).found.rates
            for path in (SAMPLES / file, tmp_path / "saved.csv")
        ]
        assert rates[0] == rates[1]


def test_a_table_without_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    text = (SAMPLES / "network_per-layer.csv").read_text().replace("DRAM AC", "DRAM")
    with pytest.raises(CrispError, match="column 'DRAM AC' is missing"):
        calibrate_from_profile(tmp_path / "mine.yaml", [_written(tmp_path, text)], "arm_ethos_u65")


def test_a_bandwidth_that_no_layer_depends_on_stays_the_stated_one(tmp_path: Path) -> None:
    events = json.loads((SAMPLES / "onnxruntime_profile.json").read_text())
    kept = [event for event in events if event.get("args", {}).get("op_name") == "Conv"]
    assert len(kept) >= 5
    profile = _written(tmp_path, json.dumps(kept))
    assert calibrate_from_profile(tmp_path / "m.yaml", [profile], "x86_avx512").found.rates.bandwidth in (None, 1.0)


def test_vela_tells_nothing_of_other_hardware(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"Vela is no tool for nvidia_a100.*arm_ethos_u65"):
        calibrate_from_profile(tmp_path / "mine.yaml", [SAMPLES / "network_per-layer.csv"], "nvidia_a100")


def test_openvino_names_layers_of_the_model_that_was_measured(net: Path, tmp_path: Path) -> None:
    counters = [SAMPLES / "benchmark_app_detailed_counters.csv"]
    found = calibrate_from_profile(tmp_path / "m.yaml", counters, "x86_avx512", model=net).found
    assert found.rates.efficiency["conv3x3"] == pytest.approx(0.5, rel=0.05)
    with pytest.raises(CrispError, match="Give the --model"):
        calibrate_from_profile(tmp_path / "m.yaml", counters, "x86_avx512")


def test_the_written_target_says_what_was_fitted_to_what_and_is_estimated_with(net: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    calibrate_from_profile(path, TENSORRT, "nvidia_a100")
    target = load_target(path)
    assert target.descriptor.profiled is not None
    assert target.descriptor.profiled.layers_held_out == 4
    fitted = {leaf.key for leaf in target.leaves() if "TensorRT profile trtexec_profile.json" in leaf.quantity.ref}
    assert {"array.efficiency.conv3x3", "overhead.per_layer"} <= fitted
    before, after = (estimate(net, name).estimate for name in ("nvidia_a100", path))
    assert after.as_is.latency_ms != before.as_is.latency_ms


def test_the_command_writes_the_target(tmp_path: Path) -> None:
    words = ["targets", "calibrate", "-o", str(tmp_path / "t.yaml"), "--target", "nvidia_a100", "-q"]
    words += [word for path in TENSORRT for word in ("--from-profile", str(path))]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert load_target(tmp_path / "t.yaml").name == "t"
    assert CliRunner().invoke(cli, [*words[:4], *words[7:]]).exit_code == 2


BROKEN = {
    "only times": (lambda folder: TENSORRT[:1], "--exportLayerInfo"),
    "only layers": (lambda folder: TENSORRT[1:], "--exportProfile"),
    "no profile": (lambda folder: [_written(folder, '{"a": 1}')], "no profile that is known"),
    "no JSON": (lambda folder: [_written(folder, "hello")], "no profile that can be read"),
    "empty": (lambda folder: [_written(folder, "")], "no profile that can be read"),
    "names without shapes": (
        lambda folder: [TENSORRT[0], _written(folder, json.dumps({"Layers": ["a", "b"]}))],
        "profilingVerbosity=detailed",
    ),
    "few layers": (
        lambda folder: [
            _written(folder, "".join((SAMPLES / "network_per-layer.csv").read_text().splitlines(keepends=True)[:3]))
        ],
        "too few",
    ),
}


def _written(folder: Path, text: str) -> Path:
    path = folder / "profile.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_what_is_no_whole_profile_is_refused_with_what_to_give(what: str, tmp_path: Path) -> None:
    files, word = BROKEN[what]
    with pytest.raises(CrispError, match=word):
        calibrate_from_profile(tmp_path / "mine.yaml", files(tmp_path), "nvidia_a100")


def _onnxruntime(folder: Path, **changed: object) -> list[Path]:
    content = json.loads((SAMPLES / "onnxruntime_profile.json").read_text())
    for event in content:
        if event["cat"] == "Node":
            event["args"].update({key: value for key, value in changed.items() if key in event["args"]})
            event.update({key: value for key, value in changed.items() if key in event})
    return [_written(folder, json.dumps(content))]


def _column(folder: Path, sample: str, column: str, value: str) -> list[Path]:
    head, *rows = (SAMPLES / sample).read_text().splitlines()
    at = head.split(",").index(column)
    told = [[*cells[:at], value, *cells[at + 1 :]] for cells in (row.split(",") for row in rows)]
    return [_written(folder, "\n".join([head, *(",".join(cells) for cells in told)]))]


def _tensorrt(folder: Path, **changed: object) -> list[Path]:
    content = json.loads(TENSORRT[1].read_text())
    for entry in content["Layers"]:
        entry.update(changed)
    return [TENSORRT[0], _written(folder, json.dumps(content))]


LAYERS, NETWORKS = "network_per-layer.csv", "networks_summary_Ethos_U65_High_End.csv"
SIDES = [{"float": [1, 16, 8, 8]}, {"float": [64, 0, 3, 3]}]
ODD = {
    "a weight of no channels": lambda folder: _onnxruntime(folder, input_type_shape=SIDES),
    "negative sides": lambda folder: _onnxruntime(folder, output_type_shape=[{"float": [1, -64, 8, 8]}]),
    "no outputs": lambda folder: _onnxruntime(folder, output_type_shape=[{"float": [0, 0, 0, 0]}]),
    "an infinite size": lambda folder: _onnxruntime(
        folder, op_name="Relu", output_size=float("inf"), input_type_shape=SIDES[:1]
    ),
    "an infinite time": lambda folder: _onnxruntime(folder, dur=float("inf")),
    "no number for a time": lambda folder: _onnxruntime(folder, dur=float("nan")),
    "deep lists": lambda folder: [_written(folder, "[" * 100_000)],
    "deep objects": lambda folder: [_written(folder, '{"a":' * 100_000)],
    "deep layers": lambda folder: [TENSORRT[0], _written(folder, '{"Layers":' + "[" * 100_000 + "]" * 100_000 + "}")],
    "infinite MACs": lambda folder: _column(folder, LAYERS, "MAC Count", "inf"),
    "infinite cycles": lambda folder: _column(folder, LAYERS, "Op Cycles", "inf"),
    "negative cycles of memory": lambda folder: _column(folder, LAYERS, "DRAM AC", "-1e12"),
    "a long field": lambda folder: _column(folder, LAYERS, "Name", "x" * 200_000),
    "a clock of 0": lambda folder: _column(folder, NETWORKS, "core_clock", "0"),
    "no cycles": lambda folder: _column(folder, NETWORKS, "cycles_total", "0"),
    "negative cycles": lambda folder: _column(folder, NETWORKS, "cycles_total", "-5"),
    "infinite MACs of a network": lambda folder: _column(folder, NETWORKS, "nn_macs", "inf"),
    "more groups than channels": lambda folder: _tensorrt(folder, Groups=10**9),
    "outputs of no size": lambda folder: _tensorrt(folder, Outputs=[{"Dimensions": [0, 0, 0, 0]}]),
    "an infinite dimension": lambda folder: _tensorrt(folder, Outputs=[{"Dimensions": [1, float("inf"), 1, 1]}]),
    "negative weights": lambda folder: _tensorrt(folder, Weights={"Type": "Float", "Count": -5}),
}


@pytest.mark.parametrize("what", sorted(ODD))
def test_odd_numbers_in_a_profile_are_refused_with_its_name(what: str, tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"profile\.txt") as refused:
        calibrate_from_profile(tmp_path / "mine.yaml", ODD[what](tmp_path), "arm_ethos_u65")
    assert "mine.yaml" not in str(refused.value)
    assert not (tmp_path / "mine.yaml").exists()


MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "epyc_1_thread.yaml"


def test_a_measured_target_is_not_fitted_to_a_profile(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match="were measured, so that rates would change nothing"):
        calibrate_from_profile(tmp_path / "mine.yaml", [SAMPLES / "onnxruntime_profile.json"], MEASURED)
    assert not (tmp_path / "mine.yaml").exists()


def test_a_profile_of_other_hardware_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    events = json.loads((SAMPLES / "onnxruntime_profile.json").read_text())
    for event in events:
        event["dur"] = 1  # faster than the target's peak
    profile.write_text(json.dumps(events))
    with pytest.raises(CrispError, match=r"No rates of raspberry_pi_5 explain the profile.*--target"):
        calibrate_from_profile(tmp_path / "mine.yaml", [profile], "raspberry_pi_5")


def test_events_of_other_forms_are_left_out(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    events = json.loads((SAMPLES / "onnxruntime_profile.json").read_text())
    odd = [
        {"cat": "Node", "name": "a_kernel_time"},
        {"cat": "Node", "name": "b_kernel_time", "dur": 5, "args": None},
        "text",
        None,
    ]
    profile.write_text(json.dumps([*events, *odd]))
    plain = calibrate_from_profile(tmp_path / "a.yaml", [SAMPLES / "onnxruntime_profile.json"], "x86_avx512").found
    found = calibrate_from_profile(tmp_path / "b.yaml", [profile], "x86_avx512").found
    assert found.rates == plain.rates
    assert found.left_out == plain.left_out + 1
