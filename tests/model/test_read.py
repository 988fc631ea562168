"""Loading: every way in which a file can be broken is one clear error, and nothing else."""

from __future__ import annotations

import hashlib
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
    assert (model.output.name, model.output.shape, model.opset) == ("y", (None, 4), 17)
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


def test_sparse_initializers_are_refused(stored):
    proto = onnx.load(stored)
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    stored.write_bytes(proto.SerializeToString())
    refused(stored, "sparse_initializer")


def with_external(stored: Path, location: str, data: Path | None = None, **place: str) -> None:
    """Move the weight `f` of the stored model to external data; `place` overrides offset and length."""
    proto = onnx.load(stored)
    tensor = next(t for t in proto.graph.initializer if t.name == "f")
    raw = numpy_helper.to_array(tensor).tobytes()
    if data is not None:
        data.parent.mkdir(exist_ok=True)
        data.write_bytes(raw)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0", "length": str(len(raw))} | place
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    stored.write_bytes(proto.SerializeToString())


def test_external_data_is_read_and_counted(stored, answers):
    x = np.ones((1, 3, 8, 8), np.float32)
    before = answers(load(stored), x)[0]
    alone = load(stored).sha256
    with_external(stored, "sub/weights.bin", stored.parent / "sub" / "weights.bin")
    model = load(stored)
    assert np.array_equal(answers(model, x)[0], before)
    assert model.file_bytes == stored.stat().st_size + 4 * 256 * 4
    assert model.sha256 not in (alone, hashlib.sha256(stored.read_bytes()).hexdigest())


def test_missing_external_data_is_named(stored):
    with_external(stored, "weights.bin")
    refused(stored, "'f'", "weights.bin", "does not exist")


def test_truncated_external_data_is_named(stored):
    data = stored.parent / "weights.bin"
    with_external(stored, "weights.bin", data)
    data.write_bytes(data.read_bytes()[:-1])
    refused(stored, "weights.bin", "'f'", "truncated")


def test_external_data_outside_the_folder_is_refused_whatever_the_way(stored):
    outside = stored.parent.parent / f"{stored.parent.name}-outside.bin"
    folder = stored.parent / "in"
    folder.mkdir()
    inside = folder / "model.onnx"
    content = stored.read_bytes()
    for location in (f"../../{outside.name}", str(outside), f"x/../../../{outside.name}"):
        inside.write_bytes(content)
        with_external(inside, location, outside)
        refused(inside, "'f'", "outside the model's folder")
    inside.write_bytes(content)
    with_external(inside, "link.bin", outside)
    (folder / "link.bin").symlink_to(outside)
    refused(inside, "'f'", "outside the model's folder")
    outside.unlink()


@pytest.mark.parametrize("place", [{"offset": "-4"}, {"length": "-4"}, {"offset": "four"}, {"length": "0x10"}])
def test_external_data_at_a_nonsensical_place_is_refused(stored, place):
    with_external(stored, "weights.bin", stored.parent / "weights.bin", **place)
    refused(stored, "external data", str(stored))


def test_external_data_of_the_wrong_length_is_refused(stored):
    with_external(stored, "weights.bin", stored.parent / "weights.bin", length="1024")
    with pytest.raises(CrispError):
        prepare(stored)
