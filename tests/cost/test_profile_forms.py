"""Profiles in the forms that the tools really write: fused layers under other names, packed weights, channels last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from crisp_onnx.api.hardware import tensor_shapes
from crisp_onnx.cost.profiles.read import read_profile
from crisp_onnx.cost.profiles.timed import Profile
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import Layer
from crisp_onnx.lowering.read_layers import read_layers
from crisp_onnx.model import Model

NET = """(float[1,16,28,28] x) => (float[1,48,28,28] y)
<float[32,16,3,3] w0, float[48,32,1,1] w1, float[48,32,3,3] w2, float[48,48,3,3] w3, float[48] s, float[48] m>
{
  [c0] a0 = Conv <pads = [1,1,1,1]> (x, w0)
  [r0] a = Relu (a0)
  [c1] b = Conv (a, w1)
  [c2] c0 = Conv <pads = [1,1,1,1]> (a, w2)
  [n2] c = BatchNormalization (c0, s, s, m, s)
  [add2] d0 = Add (b, c)
  [r2] d = Relu (d0)
  [c3] e0 = Conv <pads = [1,1,1,1]> (d, w3)
  [add3] e1 = Add (e0, d)
  [r3] y = Relu (e1)
}
"""
OPENVINO = (
    ("x", "NOT_RUN", "Parameter", "unknown_f32", 0),
    ("x_abcd_acdb_Multiply_17", "EXECUTED", "Reorder", "jit_uni_f32", 0.02),
    ("Multiply_17", "EXECUTED", "Convolution", "brgconv_avx2_f32", 0.1),
    ("r0", "NOT_RUN", "Relu", "undef", 0),
    ("Multiply_19", "EXECUTED", "Convolution", "brgconv_avx2_1x1_f32", 0.2),
    ("Multiply_18", "EXECUTED", "Convolution", "brgconv_avx2_f32", 0.3),
    ("add2", "NOT_RUN", "Add", "undef", 0),
    ("r2", "NOT_RUN", "Relu", "undef", 0),
    ("Multiply_20", "EXECUTED", "Convolution", "jit_avx2_I8", 0.4),
    ("add3", "NOT_RUN", "Add", "undef", 0),
    ("r3", "NOT_RUN", "Relu", "undef", 0),
)
"""What ran, one below the other: behind each what runs inside of it."""
KEYS = ("name", "status", "node_type", "exec_type", "real_time")


@pytest.fixture
def layers(model_of: Callable[[str], Model]) -> list[Layer]:
    model = model_of(NET)
    return read_layers(model, tensor_shapes(model))[0]


def counters(requests: tuple[float, ...], status: str) -> str:
    head = "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\n"
    parts = []
    for factor in requests:
        rows = [
            f"{name};{status}{ran};{kind};{by};{ms * factor:.3f};{ms * factor:.3f}"
            for name, ran, kind, by, ms in OPENVINO
        ]
        parts.append(head + "\n".join([*rows, "Total;;;;1.020;1.020"]) + "\n\n")
    return "".join(parts)


def document(average: bool) -> str:
    nodes = [dict(zip(KEYS, (n, f"Status.{s}", t, e, f"{ms:.3f}"), strict=True)) for n, s, t, e, ms in OPENVINO]
    part = {"nodes": nodes, "total_real_time": "1.020"}
    named = {"avg_performance": part} if average else {"detailed_performance": [part]}
    return json.dumps({"report_type": "average" if average else "detailed", **named})


@pytest.mark.parametrize(
    "text",
    [
        counters((1.0,), ""),
        counters((1.0,), "Status."),
        counters((0.9, 1.0, 5.0), "Status."),
        document(average=False),
        document(average=True),
    ],
    ids=["C++", "Python", "three requests", "JSON", "JSON of averages"],
)
def test_openvino_layers_of_other_names_are_known_by_what_runs_inside_of_them(
    text: str, layers: list[Layer], tmp_path: Path
) -> None:
    (tmp_path / "report").write_text(text)
    found = read_profile([tmp_path / "report"], clock_hz=1e9, layers=layers)
    assert {layer.name: layer.time_us for layer in found.layers} == pytest.approx({"c0": 100, "c3": 400})
    assert {layer.name: layer.dtype for layer in found.layers} == {"c0": "fp32", "c3": "int8"}
    # Which of the two products add2 runs in is OpenVINO's choice.
    assert not {"c1", "c2"} & {layer.name for layer in found.layers}
    assert all(layer.matrix for layer in found.layers)


def event(name: str, op: str, inputs: list[dict[str, list[int]]], output: dict[str, list[int]]) -> dict[str, object]:
    args = {"op_name": op, "input_type_shape": inputs, "output_type_shape": [output]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 500, "args": args | {"activation_size": "999"}}


def of_onnxruntime(folder: Path, events: list[dict[str, object]], layers: list[Layer] | None = None) -> Profile:
    (folder / "profile.json").write_text(json.dumps(events))
    return read_profile([folder / "profile.json"], clock_hz=1e9, layers=layers or [])


PACKED = [{"uint8": [1, 28, 28, 32]}, {"float": []}, {"uint8": []}, {"float": [48]}, {"int8": [48]}, {"int32": [48]}]


def test_a_convolution_whose_weight_was_packed_has_the_shape_of_the_models_or_none(
    layers: list[Layer], tmp_path: Path
) -> None:
    events = [event("c2_token_46", "QLinearConv", PACKED, {"uint8": [1, 28, 28, 48]})]
    without, found = of_onnxruntime(tmp_path, events), of_onnxruntime(tmp_path, events, layers)
    assert (without.layers, without.left_out) == ((), 1)
    assert [(layer.kind, layer.dtype, layer.time_us) for layer in found.layers] == [("conv3x3", "int8", 500)]
    assert found.layers[0].matrix == next(layer.matrix for layer in layers if layer.name == "c2")


def test_products_tell_their_shape_by_what_they_read_and_give(tmp_path: Path) -> None:
    found = of_onnxruntime(
        tmp_path,
        [
            event("packed", "MatMul", [{"float": [1, 197, 384]}], {"float": [1, 197, 1152]}),
            event("whole", "MatMul", [{"float": [1, 197, 384]}, {"float": [384, 1152]}], {"float": [1, 197, 1152]}),
            event(
                "mixed", "MatMul", [{"float": [1, 6, 197, 196]}, {"float": [1, 6, 196, 64]}], {"float": [1, 6, 197, 64]}
            ),
        ],
    )
    packed, whole, mixed = (layer.matrix for layer in found.layers)
    assert packed == whole
    assert packed and (packed.M, packed.K, packed.N, packed.groups) == (1152, 384, 197, 1)
    assert mixed and (mixed.M, mixed.K, mixed.N, mixed.groups, mixed.weighted) == (64, 196, 197, 6, False)


def test_channels_that_come_last_are_found_by_the_weight(tmp_path: Path) -> None:
    weight = {"int8": [48, 32, 3, 3]}
    inputs = [{"uint8": [1, 28, 30, 32]}, {"float": []}, {"uint8": []}, weight, {"float": [48]}]
    found = of_onnxruntime(tmp_path, [event("c", "QLinearConv", inputs, {"uint8": [1, 28, 30, 48]})]).layers[0].matrix
    assert found and (found.M, found.K, found.N, found.groups) == (48, 288, 840, 1)


def test_views_and_products_of_unknown_shape_are_no_layers_that_move_data(tmp_path: Path) -> None:
    shape = {"float": [1, 64, 8, 8]}
    events = [event(op, op, [shape], shape) for op in ("Reshape", "Squeeze", "HybridConv", "Attention", "LSTM", "Relu")]
    found = of_onnxruntime(tmp_path, events)
    assert [layer.name for layer in found.layers] == ["Relu"]
    assert found.left_out == 5


def test_an_engine_for_dynamic_shapes_is_refused_for_that(tmp_path: Path) -> None:
    tensor = [{"Dimensions": [-1, 128, 14, 14], "Format/Datatype": "N/A due to dynamic shapes"}]
    info = {"Layers": [{"Name": "c", "LayerType": "CaskConvolution", "Inputs": tensor, "Outputs": tensor}]}
    times = [{"count": 9}, {"name": "c", "timeMs": 9, "averageMs": 1, "percentage": 100}]
    for name, content in (("times", times), ("layers", info)):
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CrispError, match="built for dynamic shapes"):
        read_profile([tmp_path / "times", tmp_path / "layers"], clock_hz=1e9)


SAMPLES = Path(__file__).parent / "data/profiles"
SUMMARY, PER_LAYER = SAMPLES / "networks_summary_Ethos_U65_High_End.csv", SAMPLES / "network_per-layer.csv"


@pytest.mark.parametrize("separator", [",", "\t"])
def test_openvinos_columns_may_stand_in_any_order_and_apart_by_any_mark(
    separator: str, layers: list[Layer], tmp_path: Path
) -> None:
    plain, saved = tmp_path / "plain.csv", tmp_path / "saved.csv"
    plain.write_text(counters((1.0,), ""))
    rows = [line.split(";") for line in plain.read_text().splitlines() if line]
    saved.write_text("\n".join(separator.join([*row[3:], *row[:3]]) for row in rows))
    first, second = (read_profile([path], clock_hz=1e9, layers=layers) for path in (plain, saved))
    assert first.layers == second.layers
    assert first.layers


def test_openvinos_table_in_another_unit_is_refused_for_its_column(layers: list[Layer], tmp_path: Path) -> None:
    (tmp_path / "us.csv").write_text(counters((1.0,), "").replace("realTime (ms)", "realTime (us)"))
    with pytest.raises(CrispError, match=r"column 'realTime \(ms\)' is missing"):
        read_profile([tmp_path / "us.csv"], clock_hz=1e9, layers=layers)


def test_several_files_of_one_tool_are_all_read(tmp_path: Path) -> None:
    one, two = (read_profile([PER_LAYER] * count, clock_hz=1e9) for count in (1, 2))
    assert two.layers == one.layers * 2
    assert two.left_out == 2 * one.left_out


def test_summaries_of_two_versions_of_a_tool_may_differ_in_their_columns(tmp_path: Path) -> None:
    rows = [line.split(",") for line in SUMMARY.read_text().splitlines()]
    (tmp_path / "newer.csv").write_text("\n".join(",".join([*row[1:], row[0]]) for row in rows))
    one, both = (read_profile(paths, clock_hz=1e9) for paths in ([SUMMARY], [SUMMARY, tmp_path / "newer.csv"]))
    assert both.layers == one.layers * 2


def test_files_of_two_tools_or_two_engines_are_refused() -> None:
    times, info = SAMPLES / "trtexec_profile.json", SAMPLES / "trtexec_layers.json"
    with pytest.raises(CrispError, match=r"profiles of Vela and ONNX Runtime\. Give those of one tool"):
        read_profile([PER_LAYER, SAMPLES / "onnxruntime_profile.json"], clock_hz=1e9)
    with pytest.raises(CrispError, match=r"profiles of Vela and Vela \(networks\)"):
        read_profile([PER_LAYER, SUMMARY], clock_hz=1e9)
    with pytest.raises(CrispError, match="of several engines"):
        read_profile([times, times, info], clock_hz=1e9)


def test_nodes_of_one_name_are_as_many_layers(tmp_path: Path) -> None:
    small = event("n", "MatMul", [{"float": [1, 64]}, {"float": [64, 8]}], {"float": [1, 8]})
    large = event("n", "MatMul", [{"float": [1, 64]}, {"float": [64, 512]}], {"float": [1, 512]}) | {"dur": 4000}
    for place, node in enumerate((small, large)):
        node["args"]["node_index"] = str(place)  # type: ignore[index]
    found = of_onnxruntime(tmp_path, [small, large] * 3)
    assert [(layer.time_us, layer.matrix and layer.matrix.M) for layer in found.layers] == [(500, 8), (4000, 512)]


def test_the_length_of_a_product_is_that_of_its_weight_where_the_left_operand_lies_by_columns(tmp_path: Path) -> None:
    node = event("n", "Gemm", [{"float": [64, 9]}, {"float": [8, 64]}, {"float": [8]}], {"float": [9, 8]})
    matrix = of_onnxruntime(tmp_path, [node]).layers[0].matrix
    assert matrix and (matrix.M, matrix.K, matrix.N) == (8, 64, 9)


def of_tensorrt(folder: Path, about: dict[str, object]) -> Profile:
    times = [{"count": 9}, {"name": "c", "timeMs": 9, "averageMs": 1, "percentage": 100}]
    for name, content in (("times", times), ("layers", {"Layers": [{"Name": "c", **about}]})):
        (folder / name).write_text(json.dumps(content))
    return read_profile([folder / "times", folder / "layers"], clock_hz=1e9)


def tensors(image: list[int], out: list[int], form: str = "Row major linear FP16 format") -> dict[str, object]:
    return {key: [{"Dimensions": dims, "Format/Datatype": form}] for key, dims in (("Inputs", image), ("Outputs", out))}


@pytest.mark.parametrize(
    ("layer_type", "image", "out", "kernel", "macs"),
    [
        ("CaskConvolution", [1, 16, 8, 8, 8], [1, 32, 8, 8, 8], [3, 3, 3], 32 * 16 * 27 * 512),
        ("CaskConvolution", [1, 16, 64], [1, 32, 64], [5], 32 * 16 * 5 * 64),
        ("CaskDeconvolution", [1, 16, 8, 8], [1, 32, 16, 16], [2, 2], 16 * 32 * 4 * 64),
    ],
    ids=["volumes", "signals", "transposed"],
)
def test_tensorrts_convolutions_of_any_kind_have_their_own_macs(
    layer_type: str, image: list[int], out: list[int], kernel: list[int], macs: int, tmp_path: Path
) -> None:
    weights = {"Type": "Half", "Count": macs // 512 if len(kernel) == 3 else macs // 64}
    about = {"LayerType": layer_type, "Kernel": kernel, "Groups": 1, "Weights": weights, **tensors(image, out)}
    matrix = of_tensorrt(tmp_path, about).layers[0].matrix
    assert matrix and matrix.macs == macs


@pytest.mark.parametrize(
    ("form", "dtype"), [("BFloat16", "fp16"), ("BF16", "fp16"), ("Half", "fp16"), ("Float", "fp32")]
)
def test_tensorrts_types_are_told_apart(form: str, dtype: str, tmp_path: Path) -> None:
    about = {"LayerType": "PointWise", **tensors([1, 8, 4, 4], [1, 8, 4, 4], form)}
    assert of_tensorrt(tmp_path, about).layers[0].dtype == dtype
