"""What a file leaves unsaid and its graph says: channels of an open input, a name, which input is the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from crisp_onnx.data import parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load, tensor_shapes
from crisp_onnx.runtime.evaluate import open_stock, outputs_of
from crisp_onnx.runtime.latency import measure_files

NET = """(float[N,3,8,8] x) => (float[N,6] y) <float[16,%d,1,1] w, float[16,6] u, float[1] s> {
    %s f = Conv(t, w)  g = GlobalAveragePool(f)  h = Flatten(g)  y = Gemm(h, u) }"""
WAYS = {
    "NCHW": ("t = Identity(x)", 1),
    "NHWC": ("t = Transpose<perm=[0,3,1,2]>(x)", 3),
    "NHWC behind arithmetic": ("a = Mul(x, s) t = Transpose<perm=[0,3,1,2]>(a)", 3),
    "NHWC before arithmetic": ("a = Transpose<perm=[0,3,1,2]>(x) t = Sub(a, s)", 3),
    "with its shape read": ("q = Shape(x) t = Transpose<perm=[0,3,1,2]>(x)", 3),
}


def open_model_of(model_of, way: str, channels: int) -> Model:
    text, axis = WAYS[way]
    sides = [channels, 8, 8] if axis == 1 else [8, 8, channels]
    net = NET.replace("[N,3,8,8]", f"[N,{','.join(map(str, sides))}]")
    model = model_of(net % (channels, text))
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]:
        dim.Clear()
    return replace(model, proto=proto)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_an_open_image_are_those_that_the_first_convolution_reads(model_of, way, channels) -> None:
    model, axis = open_model_of(model_of, way, channels), WAYS[way][1]
    sides = [None] * 4
    sides[axis] = channels
    assert model.input.shape == tuple(sides)
    form = parse_preprocess("unit,size=6x8", model.input)
    assert form.layout == ("NCHW" if axis == 1 else "NHWC")
    assert tensor_shapes(model, size=(6, 8))["f"] == (1, 16, 6, 8)


def test_a_graph_without_a_name_gets_one(model_of, tmp_path: Path) -> None:
    proto = model_of(NET % (3, "t = Identity(x)")).proto
    proto.graph.name = ""
    onnx.save(proto, tmp_path / "m.onnx")
    open_stock(tmp_path / "m.onnx")  # ONNX Runtime takes it
    assert load(tmp_path / "m.onnx").proto.graph.name


def test_an_onnx_file_may_end_in_ort(model_of, tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    onnx.save(model_of(NET % (3, "t = Identity(x)")).proto, path)
    image = np.ones((2, 3, 8, 8), np.float32)
    assert outputs_of(open_stock(path), image, "y").shape == (2, 6)
    measure_files([path], load(path).input, budget_s=0.01)


def test_an_input_that_nothing_reads_is_named(model_of) -> None:
    model = model_of(NET % (3, "t = Identity(x)"))
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.input.append(helper.make_tensor_value_info("idle", TensorProto.FLOAT, [1]))
    with pytest.raises(CrispError, match="nothing reads 'idle'"):
        _ = replace(model, proto=proto).input
