"""External data: what may be read and from where, how much, and what is said where it cannot be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model import load

GRAPH = "(float[N,4] x) => (float[N,256] y) <float[4,256] f, float[256] b>{ t = MatMul(x, f) y = Add(t, b) }"


@pytest.fixture
def stored(model_of, tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of(GRAPH).proto.SerializeToString())
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(CrispError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


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
    x = np.ones((1, 4), np.float32)
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
    refused(stored, "1024 bytes", "takes 4096")


def test_a_length_that_is_not_given_is_that_of_the_shape(stored):
    with_external(stored, "weights.bin", stored.parent / "weights.bin")
    proto = onnx.load(stored, load_external_data=False)
    entries = next(t for t in proto.graph.initializer if t.name == "f").external_data
    del entries[2]
    stored.write_bytes(proto.SerializeToString())
    assert len(load(stored).proto.graph.initializer[0].raw_data) == 4096


def test_a_git_lfs_pointer_in_place_of_the_data_is_called_so(stored):
    with_external(stored, "weights.bin", stored.parent / "weights.bin")
    (stored.parent / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n")
    refused(stored, "weights.bin is a Git LFS pointer", "git lfs pull")


def test_only_what_tensors_refer_to_is_read_of_a_huge_file(stored):
    data = stored.parent / "weights.bin"
    with_external(stored, "weights.bin", data, offset="0")
    raw = data.read_bytes()
    with data.open("ab") as file:
        file.truncate(1 << 40)  # a sparse file of a terabyte
    model = load(stored)
    assert model.sha256 == hashlib.sha256(stored.read_bytes() + raw).hexdigest()
    assert model.file_bytes == stored.stat().st_size + len(raw)


def test_data_that_would_not_fit_into_memory_are_refused_before_they_are_read(stored):
    data = stored.parent / "weights.bin"
    with_external(stored, "weights.bin", data, length=str(1 << 42))
    with data.open("ab") as file:
        file.truncate(1 << 42)
    proto = onnx.load(stored, load_external_data=False)
    next(t for t in proto.graph.initializer if t.name == "f").dims[:] = [1 << 20, 1 << 20]
    stored.write_bytes(proto.SerializeToString())
    refused(stored, "take 4398.0 GB", "GB of memory")


def in_folder(stored: Path, folder: Path) -> Path:
    """The stored model in `folder`, its weight `f` beside it in weights.bin."""
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(stored.read_bytes())
    with_external(path, "weights.bin", folder / "weights.bin")
    return path


@pytest.mark.parametrize("kind", ["symbolic", "hard", "deeper"])
def test_a_link_inside_the_folder_is_followed(stored, kind):
    path = in_folder(stored, stored.parent / kind)
    expected = load(path).sha256
    data, real = path.parent / "weights.bin", path.parent / ("real.bin" if kind != "deeper" else "sub/real.bin")
    real.parent.mkdir(exist_ok=True)
    data.rename(real)
    os.link(real, data) if kind == "hard" else data.symlink_to(real.relative_to(path.parent))
    assert load(path).sha256 == expected


@pytest.mark.parametrize("below", ["", "onnx/"])
@pytest.mark.parametrize("linked", ["both", "data"])
def test_a_cache_of_hugging_face_is_read(stored, below, linked):
    path = in_folder(stored, stored.parent / "hub/models--a--b/snapshots/abc" / below)
    expected, blobs = load(path).sha256, stored.parent / "hub/models--a--b/blobs"
    blobs.mkdir()
    for name in ("model.onnx", "weights.bin") if linked == "both" else ("weights.bin",):
        file = path.parent / name
        file.rename(blobs / f"blob-of-{name}")
        file.symlink_to(os.path.relpath(blobs / f"blob-of-{name}", file.parent))
    assert load(path).sha256 == expected


def test_a_model_and_its_data_that_are_links_into_one_folder_are_read(stored):
    path = in_folder(stored, stored.parent / "store")
    (stored.parent / "view").mkdir()
    for name in ("model.onnx", "weights.bin"):
        (stored.parent / "view" / name).symlink_to(path.parent / name)
    assert load(stored.parent / "view" / "model.onnx").sha256 == load(path).sha256


@pytest.mark.parametrize("folder", ["elsewhere", "hub/blobs/deeper", "other/blobs"])
def test_a_link_to_anywhere_else_is_refused(stored, folder):
    path = in_folder(stored, stored.parent / "hub/snapshots/abc")
    secret = stored.parent / folder / "secret.bin"
    secret.parent.mkdir(parents=True)
    (path.parent / "weights.bin").rename(secret)
    (path.parent / "weights.bin").symlink_to(secret)
    refused(path, "'f'", "outside the model's folder", "Copy the file itself")


def test_blobs_that_lead_elsewhere_are_refused(stored):
    path = in_folder(stored, stored.parent / "hub/snapshots/abc")
    secret = stored.parent / "secrets" / "secret.bin"
    secret.parent.mkdir()
    (path.parent / "weights.bin").rename(secret)
    (stored.parent / "hub" / "blobs").symlink_to(secret.parent)
    (path.parent / "weights.bin").symlink_to("../../blobs/secret.bin")
    refused(path, "outside the model's folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_link_to_another_users_file_is_refused_even_in_a_cache(stored):
    path = in_folder(stored, stored.parent / "hub/snapshots/abc")
    blob = stored.parent / "hub" / "blobs" / "blob"
    blob.parent.mkdir()
    (path.parent / "weights.bin").rename(blob)
    (path.parent / "weights.bin").symlink_to("../../blobs/blob")
    load(path)
    os.chown(blob, 12345, 12345)
    refused(path, "outside the model's folder")


def test_a_loop_of_links_is_an_error(stored):
    path = in_folder(stored, stored.parent / "loop")
    (path.parent / "weights.bin").unlink()
    (path.parent / "weights.bin").symlink_to("weights.bin")
    refused(path, "weights.bin")


def test_tensors_inside_nodes_may_lie_outside_too(stored, answers):
    path = in_folder(stored, stored.parent / "attribute")
    proto = onnx.load(path, load_external_data=False)
    tensor = next(t for t in proto.graph.initializer if t.name == "f")
    proto.graph.node.insert(0, onnx.NodeProto(op_type="Constant", output=["f"], name="weight"))
    proto.graph.node[0].attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    proto.graph.initializer.remove(tensor)
    path.write_bytes(proto.SerializeToString())
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(answers(load(path), x)[0], answers(stored, x)[0])


def test_a_location_that_climbs_and_stays_in_the_folder_is_read(stored):
    (stored.parent / "a").mkdir()
    with_external(stored, "a/../x.bin", stored.parent / "x.bin")
    assert len(load(stored).proto.graph.initializer[0].raw_data) == 4096
