"""The plain graph answers as the file does, whatever that says of its shapes; a step that changes that is named."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, version_converter

from crisp_onnx.api import simplify as module
from crisp_onnx.api.simplify import require_same_answers, simplify
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import Model
from crisp_onnx.passes import PassResult

SAME = (
    "(float[N,3,17,17] x) => (float[N,5] y) <float[8,3,3,3] a, float[8,8,3,3] b, float[8,5] fc>"
    '{ s = Conv<pads=[1,1,1,1]>(x, a) t = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(s, b)'
    " u = Conv<pads=[1,1,1,1]>(t, b) p = GlobalAveragePool(u) f = Flatten(p) y = MatMul(f, fc) }"
)


def with_stale_shapes(model: Model, sides: tuple[int | str, int | str]) -> Model:
    """The model with shapes inferred, and then another size of its input."""
    proto = onnx.shape_inference.infer_shapes(model.proto)
    for dim, side in zip(list(proto.graph.input[0].type.tensor_type.shape.dim)[2:], sides, strict=True):
        dim.Clear()
        if isinstance(side, int):
            dim.dim_value = side
        else:
            dim.dim_param = side
    return Model(proto, model.path, "")


@pytest.mark.parametrize(("sides", "pads"), [((16, 16), [0, 0, 1, 1]), ((17, 16), [1, 0, 1, 1]), ((15, 19), [1] * 4)])
def test_padding_follows_the_input_and_not_the_shapes_that_an_edited_file_kept(model_of, answers, sides, pads):
    source = with_stale_shapes(model_of(SAME), sides)
    model = simplify(source).model
    assert model.graph().nodes[1].attrs["pads"] == pads
    x = np.random.default_rng(0).standard_normal((2, 3, *sides)).astype(np.float32)
    assert np.allclose(answers(model, x)[0], answers(source, x)[0], atol=1e-5)


def test_padding_of_open_sides_stays_open_though_an_edited_file_holds_shapes(model_of, answers):
    source = with_stale_shapes(model_of(SAME), ("H", "W"))
    found = simplify(source)
    model, declined = found.model, found.declined
    assert "auto_pad=SAME_UPPER and the input's size is unknown" in [d.reason for d in declined]
    for sides in ((16, 16), (17, 18)):
        x = np.random.default_rng(0).standard_normal((1, 3, *sides)).astype(np.float32)
        assert np.allclose(answers(model, x)[0], answers(source, x)[0], atol=1e-5)


def test_no_shape_of_an_edited_file_survives(model_of):
    model = simplify(with_stale_shapes(model_of(SAME), (16, 12))).model
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in model.proto.graph.value_info}
    assert shapes == {"s": [8, 16, 12], "t": [8, 8, 6], "u": [8, 8, 6], "p": [8, 1, 1], "f": [8]}


def test_a_declared_output_that_the_graph_contradicts_is_corrected_and_a_missing_one_filled_in(model_of):
    for declared in ([7], [3, 4, 5], None):
        source = model_of(SAME)
        source.proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, declared))
        assert simplify(source).model.outputs[0].shape == (None, 5)


class ChangesWeights:
    """A pass that makes one weight larger, by a factor."""

    name = "changes_weights"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, graph: gs.Graph) -> PassResult:
        graph.tensors()["b"].values = graph.tensors()["b"].values * np.float32(self.factor)
        return PassResult(1)


class PadsForEvenSides:
    """A pass that writes the padding of even sides, whatever the side."""

    name = "pads_for_even_sides"

    def run(self, graph: gs.Graph) -> PassResult:
        for node in graph.nodes:
            if node.attrs.pop("auto_pad", None):
                node.attrs["pads"] = [0, 0, 1, 1]
        return PassResult(1)


def test_a_pass_that_changes_the_answers_is_named(model_of, monkeypatch):
    source = model_of(SAME)
    monkeypatch.setattr(module, "SIMPLIFY", (*module.SIMPLIFY[:1], ChangesWeights(1.001), *module.SIMPLIFY[1:]))
    with pytest.raises(Defect, match=r"differ by \d\.\de-03 \(relative\) after the step 'changes_weights'"):
        require_same_answers(source, simplify(source), size=(17, 17))


def test_a_change_within_the_tolerance_is_none(model_of, monkeypatch):
    source = model_of(SAME)
    monkeypatch.setattr(module, "SIMPLIFY", (ChangesWeights(1.00001),))
    require_same_answers(source, simplify(source), size=(17, 17))


def test_open_sides_are_compared_at_a_second_size(model_of, monkeypatch):
    source = with_stale_shapes(model_of(SAME), ("H", "W"))
    monkeypatch.setattr(module, "SIMPLIFY", (PadsForEvenSides(),))
    with pytest.raises(Defect, match="after the step 'pads_for_even_sides'"):
        require_same_answers(source, simplify(source), size=(16, 16))


def test_a_model_that_answers_at_random_is_refused(model_of):
    source = model_of(
        "(float[N,64] x) => (float[N,64] y) <float r = {0.5}, bool t = {1}> { d = Dropout(x, r, t) y = Relu(d) }"
    )
    with pytest.raises(CrispError, match="differently from run to run"):
        require_same_answers(source, simplify(source), size=(8, 8))


def test_a_model_that_does_not_run_is_refused_with_the_reason(model_of):
    source = model_of("(float[N,4] x) => (float[N,P] y) <int64[2] s = {3,5}> { y = Reshape(x, s) }")
    with pytest.raises(CrispError, match=r"cannot run .*test\.onnx on an input of 1x4: .*Reshape") as caught:
        require_same_answers(source, simplify(source), size=(8, 8))
    assert not isinstance(caught.value, Defect)


@pytest.fixture
def old(model_of) -> Model:
    return model_of(
        "(float[N,3,8,8] x) => (float[N,5] y) <float[6,3,3,3] w, float[6,5] fc, float[5] b>"
        "{ t = Conv<pads=[1,1,1,1]>(x, w) p = GlobalAveragePool(t) f = Squeeze<axes=[2,3]>(p) y = Gemm(f, fc, b) }",
        opset=9,
    )


def test_a_conversion_that_changes_the_answers_is_refused(old, monkeypatch):
    real = version_converter.convert_version

    def wrong(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        converted = real(proto, version)
        next(n for n in converted.graph.node if n.op_type == "Gemm").attribute.add(name="alpha", type=1, f=2.0)
        return converted

    monkeypatch.setattr(version_converter, "convert_version", wrong)
    with pytest.raises(CrispError, match=r"'opset conversion' .* Export the model again at opset 13") as caught:
        require_same_answers(old, simplify(old), size=(8, 8))
    assert caught.value.exit_code == 2


def test_a_conversion_that_does_not_run_is_refused(old, monkeypatch):
    def broken(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        copy.graph.node[0].op_type = "NoSuchOperator"
        return copy

    monkeypatch.setattr(version_converter, "convert_version", broken)
    with pytest.raises(CrispError, match="no longer run after the step 'opset conversion'"):
        require_same_answers(old, simplify(old), size=(8, 8))


BODY = "<float[8,3,3,3] a, float[5,8] fc> {{ t = Conv<pads=[1,1,1,1]>(x, a) p = GlobalAveragePool(t) {flat} {end} }}"
ONE = "s = Constant<value = int64[2] {1,-1}>() f = Reshape(p, s)"


def settled(source: Model):
    return require_same_answers(source, simplify(source), size=(6, 6))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_open_batch_that_a_reshape_binds_to_one_image_is_freed(model_of, answers, batch):
    source = model_of("(float[N,3,6,6] x) => (float[N,5] y) " + BODY.format(flat=ONE, end="y = Gemm<transB=1>(f, fc)"))
    found = settled(source)
    assert found.batch is None
    assert "answers one image at a time" in found.notes[0] and "takes any batch" in found.notes[0]
    x = np.random.default_rng(0).standard_normal((batch, 3, 6, 6)).astype(np.float32)
    one_by_one = np.concatenate([answers(source, image[None])[0] for image in x])
    assert np.allclose(answers(found.model, x)[0], one_by_one, atol=1e-6)


def test_an_open_batch_that_something_else_binds_counts_as_one(model_of):
    end = "l = Gemm<transB=1>(f, fc) r = Constant<value = int64[2] {5,1}>() n = Reshape(l, r) y = Transpose(n)"
    source = model_of("(float[N,3,6,6] x) => (float[1,5] y) " + BODY.format(flat="f = Flatten(p)", end=end))
    found = settled(source)
    assert found.batch == 1
    assert "fixed at one" in found.notes[0]


def test_images_that_a_reshape_passes_through_one_row_stay_independent(model_of, answers):
    flat = ONE + " t2 = Constant<value = int64[2] {-1,8}>() g = Reshape(f, t2)"
    source = model_of("(float[N,3,6,6] x) => (float[N,5] y) " + BODY.format(flat=flat, end="y = Gemm<transB=1>(g, fc)"))
    found = settled(source)
    assert (found.batch, found.notes) == (None, ())


def test_a_fixed_batch_stays_what_it_is(model_of):
    body = BODY.format(flat=ONE.replace("{1,", "{4,"), end="y = Gemm<transB=1>(f, fc)")
    found = settled(model_of("(float[4,3,6,6] x) => (float[4,5] y) " + body))
    assert (found.batch, found.notes) == (4, ())
    assert found.model.input.shape == (4, 3, 6, 6)


def test_a_squeeze_without_axes_keeps_the_batch_of_one_image(model_of, answers):
    source = model_of(
        "(float[N,3,6,6] x) => (float[N,5] y) <float[8,3,3,3] a, float[5,8,1,1] h>"
        "{ t = Conv<pads=[1,1,1,1]>(x, a) p = GlobalAveragePool(t) l = Conv(p, h) y = Squeeze(l) }"
    )
    found = settled(source)
    assert found.model.outputs[0].shape == (None, 5)
    for batch in (1, 3):
        x = np.random.default_rng(0).standard_normal((batch, 3, 6, 6)).astype(np.float32)
        answer = answers(found.model, x)[0]
        assert answer.shape == (batch, 5)
        assert np.allclose(answer.squeeze(), answers(source, x)[0], atol=1e-6)
    assert found.notes == (
        "Output 'y' of test.onnx is [5] for a single image, because a Squeeze without axes takes its batch axis away; "
        "in the result it is [1, 5], as for any other batch.",
    )


def test_a_squeeze_of_a_fixed_batch_of_one_keeps_its_shape_and_needs_no_note(model_of, answers):
    source = model_of(
        "(float[1,3,6,6] x) => (float[5] y) <float[8,3,3,3] a, float[5,8,1,1] h>"
        "{ t = Conv<pads=[1,1,1,1]>(x, a) p = GlobalAveragePool(t) l = Conv(p, h) y = Squeeze(l) }"
    )
    found = settled(source)
    assert found.notes == ()
    assert answers(found.model, np.zeros((1, 3, 6, 6), np.float32))[0].shape == (5,)


def test_a_model_of_16_bits_is_held_to_float32_from_there_on(model_of, answers):
    text = "(float16[N,3,6,6] x) => (float16[N,5] y) " + BODY.format(flat="f = Flatten(p)", end="y = MatMul(f, h)")
    source = model_of(text.replace("float[", "float16[").replace("[5,8] fc", "[8,5] h"))
    found = settled(source)
    assert "2 tensors are stored as float16; they become float32 here and in the result, twice as large." in found.notes
    assert (found.model.input.dtype, found.model.outputs[0].dtype) == (np.float16, np.float16)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float16)
    assert np.allclose(answers(found.model, x)[0], answers(source, x)[0], rtol=1e-2, atol=1e-3)


def test_a_change_behind_float32_is_noticed_in_a_model_of_16_bits(model_of, monkeypatch):
    text = "(float16[N,3,6,6] x) => (float16[N,5] y) " + BODY.format(flat="f = Flatten(p)", end="y = MatMul(f, b)")
    source = model_of(text.replace("float[", "float16[").replace("[5,8] fc", "[8,5] b"))
    monkeypatch.setattr(module, "SIMPLIFY", (*module.SIMPLIFY, ChangesWeights(1.005)))
    with pytest.raises(Defect, match="after the step 'changes_weights'"):
        settled(source)


def test_weights_stored_as_whole_numbers_are_said_to_grow(model_of):
    source = model_of(
        "(float[N,8] x) => (float[N,5] y) <int8[8,5] q, float scale = {0.5}>"
        "{ w = DequantizeLinear(q, scale) y = MatMul(x, w) }"
    )
    assert "four times as large" in simplify(source).notes[0]
