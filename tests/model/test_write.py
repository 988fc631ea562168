"""Writing: whole or not at all, tensors aligned, weights never inputs."""

from __future__ import annotations

import errno
import os
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, load, save, weights_files, write_files
from crisp_onnx.model.write import ALIGNMENT_BYTES

SMALL = "(float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }"
LARGE = (
    "(float[N,999] x) => (float[N,997] y) <float[999,1100] w, float[1100,997] v, float[997] b, float[3] tiny>"
    "{ t = MatMul(x, w) u = MatMul(t, v) s = ReduceSum<keepdims=0>(tiny) r = Add(u, b) y = Mul(r, s) }"
)


def test_a_small_model_is_one_file_with_its_weights_inside(model_of, tmp_path, answers):
    model = model_of(SMALL)
    size = save(model, tmp_path / "m.onnx")
    assert [f.name for f in tmp_path.iterdir()] == ["m.onnx"]
    assert size == (tmp_path / "m.onnx").stat().st_size
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(answers(tmp_path / "m.onnx", x)[0], answers(model, x)[0])


def test_a_large_model_keeps_its_tensors_beside_it_at_multiples_of_64_bytes(model_of, tmp_path, answers):
    model = model_of(LARGE)
    path = tmp_path / "m.onnx"
    size = save(model, path)
    assert size == sum(f.stat().st_size for f in tmp_path.iterdir())
    outside = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            info = {entry.key: entry.value for entry in tensor.external_data}
            outside[tensor.name] = info
            assert int(info["offset"]) % ALIGNMENT_BYTES == 0
            assert re.fullmatch(r"m\.onnx\.[0-9a-f]{12}\.data", info["location"])
            assert not tensor.raw_data
    assert set(outside) == {"w", "v", "b"}
    onnx.checker.check_model(str(path), full_check=True)
    x = np.ones((2, 999), np.float32)
    assert np.array_equal(answers(path, x)[0], answers(model, x)[0])
    again = load(path)
    for one, other in zip(again.proto.graph.initializer, model.proto.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_a_model_read_from_external_data_is_written_whole_again(model_of, tmp_path):
    save(model_of(LARGE), tmp_path / "m.onnx")
    (tmp_path / "other").mkdir()
    save(load(tmp_path / "m.onnx"), tmp_path / "other" / "n.onnx")
    assert len(list((tmp_path / "other").iterdir())) == 2
    assert load(tmp_path / "other" / "n.onnx").outputs[0].shape == (None, 997)


def test_weights_are_named_by_their_content_and_go_with_their_model(model_of, tmp_path):
    path, other = tmp_path / "m.onnx", tmp_path / "m.onnx.2.data"
    other.write_text("of another tool")
    save(model_of(LARGE), path)
    first = weights_files(path)
    save(model_of(LARGE), path)
    assert weights_files(path) == first
    changed = model_of(LARGE).proto
    changed.graph.initializer[0].raw_data = bytes(len(changed.graph.initializer[0].raw_data))
    save(Model(changed, path, ""), path)
    assert weights_files(path) != first
    save(model_of(SMALL), path)
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_one_file_holds_a_large_model_where_that_is_asked_for(model_of, tmp_path, answers):
    model = model_of(LARGE)
    save(model, tmp_path / "m.onnx", one_file=True)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    x = np.ones((2, 999), np.float32)
    assert np.array_equal(answers(tmp_path / "m.onnx", x)[0], answers(model, x)[0])


def test_no_file_is_asked_to_hold_more_than_two_gibibytes(model_of, tmp_path, monkeypatch):
    monkeypatch.setattr("crisp_onnx.model.write.ONE_FILE_BYTES", 1000)
    save(model_of(LARGE), tmp_path / "m.onnx", one_file=True)
    assert len(weights_files(tmp_path / "m.onnx")) == 1


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.INT8])
def test_numbers_of_every_width_survive_outside_the_file(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("crisp_onnx.model.write.EXTERNAL_OVER_BYTES", 100)
    values = np.arange(4096) % 7
    tensor = helper.make_tensor("c", kind, [4096], values.astype(np.float32) if kind != TensorProto.INT4 else values)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N"])],
        [helper.make_tensor_value_info("y", 1, ["N"])],
        [tensor],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "in.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "in.onnx")
    save(model, tmp_path / "out.onnx")
    assert weights_files(tmp_path / "out.onnx")[0].stat().st_size == 4096 * {22: 1, 16: 4, 10: 4, 3: 2}[kind] // 2
    back = numpy_helper.to_array(load(tmp_path / "out.onnx").proto.graph.initializer[0])
    assert np.array_equal(back.astype(np.float32), values.astype(np.float32))


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_target_and_the_folder_as_they_were(model_of, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old model")
    (tmp_path / "m.onnx.data").write_bytes(b"the old data")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CrispError, match=r"Cannot write .*m\.onnx.*No space left on device\. Free some space"):
        save(model_of(LARGE), path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == {
        "m.onnx": b"the old model",
        "m.onnx.data": b"the old data",
    }


def test_a_disk_that_fills_up_at_the_second_file_changes_neither(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def second_fails(handle: int) -> None:
        calls.append(handle)
        real(handle) if len(calls) < 2 else full_disk()

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(CrispError, match="No space left"):
        write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files({tmp_path / "a": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_in_the_way_are_errors(model_of, tmp_path):
    with pytest.raises(CrispError, match=r"Cannot write .*No such file or directory"):
        save(model_of(SMALL), tmp_path / "no" / "m.onnx")
    (tmp_path / "m.onnx").mkdir()
    (tmp_path / "m.onnx.data").write_bytes(b"old")
    with pytest.raises(CrispError, match=r"Cannot write .*it is a folder"):
        save(model_of(LARGE), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_written_files_have_the_rights_of_any_other_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_files({tmp_path / "ours": b""})
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_weights_are_never_inputs_of_a_written_file(model_of, tmp_path):
    model = model_of(SMALL)
    model.proto.ir_version = 3
    model.proto.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 4]))
    save(model.with_graph(model.graph()), tmp_path / "m.onnx")
    assert [i.name for i in onnx.load(tmp_path / "m.onnx").graph.input] == ["x"]
