"""From the file to the simplified model: layers that only simplification makes prunable."""

from __future__ import annotations

import pytest

from crisp_onnx.api.prepare import prepare
from crisp_onnx.errors import CrispError
from crisp_onnx.format import Pattern
from crisp_onnx.masks import reason_to_stay_dense


@pytest.fixture
def prepared(model_of, tmp_path):
    def run(text, size=(32, 32), **options):
        path = tmp_path / "model.onnx"
        path.write_bytes(model_of(text, **options).proto.SerializeToString())
        return prepare(path, size=size)

    return run


def test_padding_by_auto_pad_is_written_out_though_the_file_holds_no_shapes(prepared):
    found = prepared(
        "(float[N,3,16,16] x) => (float[N,32,8,8] y) <float[32,3,3,3] stem, float[32,32,3,3] w>"
        '{ h = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, stem) y = Conv<auto_pad="SAME_UPPER">(h, w) }'
    )
    assert [reason_to_stay_dense(layer, Pattern()) for layer in found.layers][1] == ""
    assert found.model.graph().nodes[1].attrs["pads"] == [1, 1, 1, 1]


def test_a_hidden_weight_is_found_and_its_layer_can_be_pruned(prepared):
    found = prepared(
        "(float[N,32] x) => (float[N,10] y) <float[32,32] w, float[32,10] fc>"
        "{ t = Transpose<perm=[1,0]>(w) h = MatMul(x, t) r = Relu(h) [head] y = MatMul(r, fc) }"
    )
    assert [layer.weight for layer in found.layers] == ["t", "fc"]
    assert found.head.classifier == ("head",)
    assert found.head.classes == 10


def test_open_sides_are_taken_at_the_size_of_the_preprocessing(prepared):
    found = prepared(
        "(float[N,3,H,W] x) => (float[N,10] y) <float[16,3,3,3] stem, float[10,16] fc>"
        "{ h = Conv<pads=[1,1,1,1], strides=[2,2]>(x, stem) p = GlobalAveragePool(h) f = Flatten(p)"
        " y = Gemm<transB=1>(f, fc) }"
    )
    assert found.layers[0].positions == 16 * 16


@pytest.mark.parametrize(
    ("axes", "layout"),
    [("3,16,48", ""), ("3,H,W", ""), ("C,H,W", ""), ("C,16,W", ""), ("16,48,3", "NHWC"), ("H,W,3", "NHWC")],
)
def test_macs_of_open_axes_are_those_of_the_same_network_with_fixed_ones(prepared, axes, layout):
    turned = "t = Transpose<perm=[0,3,1,2]>(x) " if layout else "t = Identity(x) "
    found = prepared(
        f"(float[N,{axes}] x) => (float[N,10] y) <float[16,3,3,3] stem, float[10,16] fc>{{ {turned}"
        "h = Conv<pads=[1,1,1,1]>(t, stem) p = GlobalAveragePool(h) f = Flatten(p) y = Gemm<transB=1>(f, fc) }",
        size=(16, 48),
    )
    assert found.macs == 16 * 48 * 16 * 27 + 160
    assert found.head.classes == 10


def test_a_classifier_that_only_fits_images_that_are_not_square_is_one(prepared):
    found = prepared(
        "(float[N,3,H,W] x) => (float[N,5] y) <float[4,3,3,3] stem, float[5,32] fc>"
        "{ h = Conv<pads=[1,1,1,1]>(x, stem) p = MaxPool<kernel_shape=[8,8], strides=[8,8]>(h) f = Flatten(p)"
        " y = Gemm<transB=1>(f, fc) }",
        size=(16, 32),
    )
    assert found.head.classes == 5


@pytest.mark.parametrize("output", ["float[N,5,4,4]", "float[5]"])
def test_an_output_that_is_no_row_of_logits_is_refused(prepared, output):
    body = "{ y = Conv(x, w) }" if "N" in output else "{ t = Conv(x, w) y = ReduceMean<axes=[0,2,3], keepdims=0>(t) }"
    found = prepared(f"(float[N,3,4,4] x) => ({output} y) <float[5,3,1,1] w> {body}")
    with pytest.raises(CrispError, match="not one row of class logits"):
        _ = found.head


def test_a_local_function_is_looked_into(prepared):
    found = prepared(
        "(float[N,32] x) => (float[N,10] y) <float[32,32] w, float[32,10] fc>"
        "{ h = local.Dense(x, w) r = Relu(h) y = MatMul(r, fc) }",
        functions='<domain: "local", opset_import: ["" : 17]>'
        " Dense (a, b) => (c) { t = Transpose(b) c = MatMul(a, t) }",
    )
    assert [layer.shape for layer in found.layers] == [(32, 32, 1, 1), (10, 32, 1, 1)]
    assert not any(found.layers[0].obstacle)
