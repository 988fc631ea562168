"""What `compress` would refuse is refused before anything is trained, and `check` says the same."""

from __future__ import annotations

import numpy as np
import pytest

from crisp_onnx import CrispError, check
from crisp_onnx.api.acceptance import accept
from crisp_onnx.api.prepare import prepare

HEAD = " p = GlobalAveragePool(u) f = Flatten(p) y = Gemm<transB=1>(f, fc) }"
STORED = "float[32,3,3,3] a, float[32,32,3,3] b, float[5,32] fc"
PLAIN = "t = Conv<pads=[1,1,1,1]>(x, a) r = Relu(t) u = Conv<pads=[1,1,1,1]>(r, b)"


@pytest.fixture
def stored(model_of, tmp_path):
    def store(body: str, more: str = "", kind: str = "float", **options):
        text = f"({kind}[N,3,8,8] x) => (float[N,5] y) <{STORED}{more}> {{ {body}{HEAD}"
        path = tmp_path / "net.onnx"
        path.write_bytes(model_of(text, **options).proto.SerializeToString())
        return path

    return store


def refused(path, *words):
    with pytest.raises(CrispError) as caught:
        accept(prepare(path, size=8))
    found = check(path)
    assert found.refusal == str(caught.value)
    for word in words:
        assert word in found.refusal


def test_a_plain_model_is_accepted_and_left_as_it_was(stored):
    path = stored(PLAIN)
    accepted = accept(prepare(path, size=8))
    assert not accepted.module.training
    assert check(path).refusal == ""


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_an_input_of_another_float_type_with_a_cast_is_accepted(stored, kind):
    assert check(stored("c = Cast<to=1>(x) " + PLAIN.replace("(x,", "(c,"), kind=kind)).refusal == ""


def test_batch_norm_in_training_mode_is_refused_by_name(stored):
    norm = "n, m2, v2 = BatchNormalization<training_mode=1>(t, g, h, m, v)"
    more = ", float[32] g, float[32] h, float[32] m, float[32] v"
    path = stored(PLAIN.replace("r = Relu(t)", f"[norm] {norm} r = Relu(n)"), more, v=np.ones(32))
    refused(path, "'norm'", "training mode", "model.eval()")


def test_a_variance_below_zero_is_refused(stored):
    more = ", float[32] g, float[32] h, float[32] m, float[32] v"
    body = PLAIN.replace("r = Relu(t)", "n = BatchNormalization(t, g, h, m, v) r = Relu(n)")
    refused(stored(body, more, v=-np.ones(32)), "'v'", "not above zero")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused_by_name(stored, number):
    weight = np.zeros((32, 32, 3, 3))
    weight[0, 0, 0, 0] = number
    refused(stored(PLAIN, b=weight), "'b'", "1 of 9216 values", "NaN or infinite")


def test_a_quantised_model_is_told_from_one_that_lacks_a_handler(stored):
    step = "q = QuantizeLinear(t, s, z) d = DequantizeLinear(q, s, z) r = Relu(d)"
    path = stored(PLAIN.replace("r = Relu(t)", step), ", float s = {0.1}, uint8 z = {0}")
    refused(path, "8 bits", "QuantizeLinear (1 node", "Compress the float model")


def test_an_operator_that_no_answer_needs_is_no_obstacle(stored):
    assert check(stored(PLAIN.replace("r = Relu(t)", "d = Det(x) r = Relu(t)"))).refusal == ""


def test_a_model_without_a_prunable_layer_is_refused_by_check_too(model_of, tmp_path):
    path = tmp_path / "net.onnx"
    text = "(float[N,3,8,8] x) => (float[N,5] y) <float[5,192] fc> { f = Flatten(x) y = Gemm<transB=1>(f, fc) }"
    path.write_bytes(model_of(text).proto.SerializeToString())
    assert "No prunable layer in net.onnx" in check(path).refusal


def test_a_model_of_rows_is_not_spoken_of_in_pixels(model_of, tmp_path):
    path = tmp_path / "mlp.onnx"
    text = (
        "(float[N,784] x) => (float[N,10] y) <float[784,64] a, float[64,10] b>"
        "{ t = MatMul(x, a) r = Relu(t) y = MatMul(r, b) }"
    )
    path.write_bytes(model_of(text).proto.SerializeToString())
    found = check(path)
    assert found.refusal == ""
    assert any("rows of 784, not images" in note for note in found.notes)
    assert not any("pixels" in note for note in found.notes)


def test_a_model_whose_layers_are_all_shared_is_told_layer_by_layer(stored):
    body = PLAIN.replace("u = ", "u1 = ") + " t2 = Conv<pads=[1,1,1,1]>(x, a) r2 = Relu(t2) "
    path = stored(body + "u2 = Conv<pads=[1,1,1,1]>(r2, b) u = Add(u1, u2)")
    accept(prepare(path, size=8))
    refusal = check(path).refusal
    assert refusal.startswith("No prunable layer in net.onnx")
    assert "weight 'b' is shared by 2 nodes" in refusal
