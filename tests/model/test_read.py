"""Loading: every way in which a file can be broken is one clear error, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.api.prepare import prepare
from crisp_onnx.errors import CrispError
from crisp_onnx.model import load

GRAPH = (
    "(float[N,3,8,8] x) => (float[N,4] y) <float[4,3,3,3] w, float[4] b, int64[2] s = {0,-1}, float[4,256] f>"
    "{ [c] t = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(t) q = Reshape(r, s) z = Gemm<transB=1>(q, f) y = Softmax(z) }"
)


@pytest.fixture
def stored(model_of, tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of(GRAPH).proto.SerializeToString())
    return path


def refused(path: Path, *words: str) -> str:
    with pytest.raises(CrispError) as caught:
        load(path)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


def test_a_loaded_model_knows_its_input_output_hash_and_size(stored):
    model = load(stored)
    assert (model.input.name, model.input.shape, model.input.dtype) == ("x", (None, 3, 8, 8), np.float32)
    assert [(output.name, output.shape) for output in model.outputs] == [("y", (None, 4))]
    assert model.opset == 17
    assert model.sha256 == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert model.file_bytes == stored.stat().st_size


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    refused(tmp_path / "no.onnx", "No such file", "no.onnx")
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04" + b"\0" * 50, b"\x08\x08", bytes(range(256))])
def test_what_is_not_onnx_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, str(path), "not an ONNX model")


def test_a_file_cut_off_anywhere_is_an_error_or_still_whole(stored):
    content = stored.read_bytes()
    whole = load(stored).proto.graph
    for end in [*range(0, len(content), 37), len(content) - 1]:
        stored.write_bytes(content[:end])
        try:
            assert load(stored).proto.graph == whole
        except CrispError as error:
            assert str(stored) in str(error)


def test_flipped_bytes_give_an_error_or_a_graph_but_never_a_traceback(stored):
    content = stored.read_bytes()
    rng = np.random.default_rng(0)
    weights = content.index(b"Softmax") + 200  # damage names, types and structure, not the numbers
    refusals = 0
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(0, weights, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        stored.write_bytes(bytes(damaged))
        try:
            prepare(stored)
        except CrispError:
            refusals += 1
    assert refusals > 100


def test_a_graph_that_the_checker_refuses_is_named(stored):
    proto = onnx.load(stored)
    proto.graph.node[1].op_type = "NoSuchOperator"
    stored.write_bytes(proto.SerializeToString())
    refused(stored, "is not a valid ONNX model", "NoSuchOperator")


def test_two_inputs_are_refused_by_name(model_of):
    model = model_of("(float[N,4] x, float[N,4] mask) => (float[N,4] y) { y = Mul(x, mask) }")
    with pytest.raises(CrispError, match=r"test.onnx has 2 inputs \('x', 'mask'\); one image input is needed"):
        _ = model.input


def test_an_input_that_is_no_tensor_is_refused(model_of):
    model = model_of("(seq(float[N,4]) x) => (int64 y) { y = SequenceLength(x) }")
    with pytest.raises(CrispError, match="'x' is not a tensor"):
        _ = model.input


def test_sparse_tensors_are_written_out(stored, answers):
    proto = onnx.load(stored)
    weight = next(t for t in proto.graph.initializer if t.name == "w")
    array = np.where(np.arange(108).reshape(weight.dims) % 3 == 0, numpy_helper.to_array(weight), 0)
    places = np.flatnonzero(array)
    weight.CopyFrom(numpy_helper.from_array(array, "w"))
    stored.write_bytes(proto.SerializeToString())
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = answers(stored, x)[0]
    for indices in (places, np.stack(np.unravel_index(places, array.shape), 1)):
        for way in ("initializer", "constant"):
            sparse = helper.make_sparse_tensor(
                numpy_helper.from_array(array.reshape(-1)[places], "w"),
                numpy_helper.from_array(indices, "i"),
                array.shape,
            )
            changed = onnx.ModelProto()
            changed.CopyFrom(proto)
            changed.graph.initializer.remove(weight)
            if way == "initializer":
                changed.graph.sparse_initializer.append(sparse)
            else:
                changed.graph.node.insert(0, helper.make_node("Constant", [], ["w"], name="c", sparse_value=sparse))
            stored.write_bytes(changed.SerializeToString())
            assert np.array_equal(answers(load(stored), x)[0], expected)


@pytest.mark.parametrize(
    ("places", "shape", "words"),
    [([3], [1 << 20, 1 << 20], "4.4e+03 GB"), ([9], [4], "1 values at 1 places"), ([-1], [4], "do not all lie")],
)
def test_sparse_tensors_that_cannot_be_are_refused(stored, places, shape, words):
    proto = onnx.load(stored)
    values, indices = np.ones(len(places), np.float32), np.array(places)
    sparse = proto.graph.sparse_initializer.add(dims=shape)
    sparse.values.CopyFrom(numpy_helper.from_array(values, "odd"))
    sparse.indices.CopyFrom(numpy_helper.from_array(indices, "i"))
    stored.write_bytes(proto.SerializeToString())
    refused(stored, "'odd'", words)


def test_an_output_that_declares_nothing_but_its_name_is_read(stored, answers):
    proto = onnx.load(stored)
    proto.graph.output[0].ClearField("type")
    stored.write_bytes(proto.SerializeToString())
    assert prepare(stored).model.outputs[0].shape == (None, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "Git LFS pointer"),
        (b"PK\x03\x04\x14\0\0\0" + bytes(60), "zip archive"),
        (b"\x18\0\0\0ORTM" + bytes(60), "ORT format"),
        (b"\x18\0\0\0TFL3" + bytes(60), "TensorFlow Lite"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\x80\x02}q\x00.", "torch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "Keras"),
    ],
)
def test_what_is_another_kind_of_file_is_called_so(tmp_path, content, words):
    (tmp_path / "model.onnx").write_bytes(content)
    text = refused(tmp_path / "model.onnx", words)
    assert "truncated" not in text


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_ordinary_file_is_not_opened(tmp_path, make):
    make(tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "no ordinary file")


def test_a_file_larger_than_onnx_can_hold_is_not_read(tmp_path):
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(1 << 40)
    refused(tmp_path / "model.onnx", "larger than 2 GiB", "external data")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: setattr(t, "raw_data", t.raw_data + bytes(4)), ["'f'", "holds 4100 bytes", "[4, 256] takes 4096"]),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), ["'f'", "holds 4095 bytes"]),
        (lambda t: t.dims.append(2), ["'f'", "[4, 256, 2] takes 8192"]),
        (lambda t: t.dims.append(-1), ["'f'", "negative length"]),
        (lambda t: t.dims.append(1 << 62), ["'f'", "holds 4096 bytes"]),
        (lambda t: setattr(t, "data_type", 99), ["'f'", "element type 99"]),
        (lambda t: setattr(t, "data_type", 0), ["'f'", "element type 0"]),
        (
            lambda t: (t.ClearField("raw_data"), t.float_data.extend([1.0] * 5)),
            ["'f'", "holds 5 numbers", "takes 1024"],
        ),
    ],
)
def test_data_that_do_not_fit_their_shape_are_refused_by_name(stored, change, words):
    proto = onnx.load(stored)
    change(next(t for t in proto.graph.initializer if t.name == "f"))
    stored.write_bytes(proto.SerializeToString())
    refused(stored, str(stored), *words)


def test_data_of_an_attribute_that_do_not_fit_are_refused_with_the_node(stored):
    proto = onnx.load(stored)
    value = helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0])
    value.float_data.append(3.0)
    proto.graph.node.add(op_type="Constant", name="fill", output=["unread"]).attribute.append(
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=value)
    )
    stored.write_bytes(proto.SerializeToString())
    refused(stored, "'value' of node 'fill'", "holds 3 numbers")


@pytest.mark.parametrize(
    "kind", ["INT4", "UINT4", "BOOL", "FLOAT16", "BFLOAT16", "DOUBLE", "COMPLEX64", "UINT64", "STRING"]
)
@pytest.mark.parametrize("raw", [False, True])
def test_numbers_of_every_kind_fit_their_shape(stored, kind, raw):
    number = TensorProto.DataType.Value(kind)
    if kind == "STRING" and raw:
        pytest.skip("text is never raw")
    values = ["a", "b", "c"] if kind == "STRING" else [1, 0, 1]
    tensor = helper.make_tensor("odd", number, [3], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "odd")
        tensor.data_type = number
    proto = onnx.load(stored)
    proto.opset_import[0].version, proto.ir_version = 21, 10
    proto.graph.initializer.append(tensor)
    stored.write_bytes(proto.SerializeToString())
    assert load(stored).proto.graph.initializer[-1] == tensor


def test_names_that_are_no_text_are_refused_before_anything_reads_them(stored):
    content = stored.read_bytes()
    assert content.count(b"Softmax") == 1
    stored.write_bytes(content.replace(b"Softmax", b"Soft\xffax"))
    refused(stored, "a name in it is no text")


def test_a_comment_in_another_encoding_is_no_obstacle(stored):
    proto = onnx.load(stored)
    proto.graph.doc_string = "Fuer Menschen"
    stored.write_bytes(proto.SerializeToString().replace(b"Fuer", b"F\xfcr "))
    assert load(stored).proto.graph.doc_string == ""


def test_a_path_that_is_not_utf8_is_refused_with_the_reason(stored, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe9le.onnx"))
    path.write_bytes(stored.read_bytes())
    with pytest.raises(CrispError, match=r"mod\\xe9le\.onnx is not UTF-8, and ONNX Runtime opens no such path"):
        load(path)
