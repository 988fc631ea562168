"""Bad input: one or two sentences that say what, where and what to do; exit code 2; nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image


def contents(folder: Path) -> dict[Path, int]:
    """Every path below, with the time of the last change for files."""
    return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in folder.rglob("*")}


@pytest.fixture
def refused(run, tmp_path):
    """Run a command that must fail: exit code, the words in its message, and a folder left as it was."""

    def call(*arguments, words, code=2, folder: Path = tmp_path):
        before = contents(folder)
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        message = done.stderr.strip().splitlines()[-1]
        for word in words:
            assert str(word) in message, message
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert contents(folder) == before
        return message

    return call


def changed(workplace, **options):
    """The options of a good run with some of them replaced; None drops one."""
    words = list(workplace.options)
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        if key == "model":
            words[1] = str(value)
        elif flag in words:
            at = words.index(flag)
            words[at : at + 2] = [] if value is None else [flag, str(value)]
        else:
            words += [flag, str(value)]
    return words


def test_no_such_file(workplace, refused, tmp_path):
    refused(
        *changed(workplace, model=tmp_path / "no.onnx"), words=["No such file", tmp_path / "no.onnx", "Give the path"]
    )
    for command in ("check", "inspect"):
        refused(command, tmp_path / "no.onnx", words=["No such file"])
    refused("verify", tmp_path / "no.onnx", workplace.model, words=["No such file"])


def test_not_onnx_and_truncated_onnx(workplace, refused, tmp_path):
    broken = tmp_path / "broken.onnx"
    for content in (b"hello", workplace.model.read_bytes()[:-1000]):
        broken.write_bytes(content)
        for words in (changed(workplace, model=broken), ["check", broken], ["inspect", broken]):
            refused(*words, "-q", words=["broken.onnx", "not an ONNX model", "truncated", "Export or copy it again"])


def external(workplace, folder: Path, location: str) -> Path:
    proto = onnx.load(workplace.model)
    tensor = next(t for t in proto.graph.initializer if t.name == "conv1.weight")
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(raw))}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "external.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_missing_or_outside_the_folder(workplace, refused, tmp_path):
    path = external(workplace, tmp_path, "weights.bin")
    refused(*changed(workplace, model=path), words=["conv1.weight", "weights.bin", "does not exist"])
    path = external(workplace, tmp_path, "../../etc/passwd")
    refused(*changed(workplace, model=path), words=["conv1.weight", "outside the model's folder"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("0\nseven\n", ["cls.txt, line 2", "seven"]),
        ("0\n6\n", ["cls.txt, line 2", "6"]),
        ("0\n0\n", ["cls.txt, line 2", "names already"]),
        ("# nothing\n\n", ["class list", "is empty", "one class a line"]),
    ],
)
def test_class_lists_at_fault(workplace, refused, tmp_path, content, words):
    (tmp_path / "cls.txt").write_text(content)
    refused(*changed(workplace, classes=tmp_path / "cls.txt"), words=words)


def test_an_unknown_name_lists_the_nearest(workplace, refused, tmp_path):
    (tmp_path / "labels.txt").write_text("apple\nbanana\ncherry\ndate\nelder\nfig\n")
    (tmp_path / "cls.txt").write_text("apple\nbanona\n")
    refused(
        *changed(workplace, classes=tmp_path / "cls.txt", labels=tmp_path / "labels.txt"),
        words=["line 2", "'banona'", "Did you mean 'banana'"],
    )


def test_no_class_list(workplace, refused):
    refused(*changed(workplace, classes=None), words=["'classes' is missing"])
    refused(*changed(workplace, classes="none.txt"), words=["none.txt"])


def test_a_class_without_images(workplace, refused, tmp_path):
    with np.load(workplace.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    np.savez(tmp_path / "few.npz", x=x[y != 2], y=y[y != 2])
    refused(*changed(workplace, data=tmp_path / "few.npz"), words=["few.npz", "2"])


def test_a_corrupt_archive_is_refused(workplace, refused, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    refused(*changed(workplace, data=tmp_path / "bad.npz"), words=["bad.npz", "not a readable .npz"])


def test_a_corrupt_image_is_left_out_and_counted(workplace, run, tmp_path):
    for label in ("0", "2", "4"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (12, 12)).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images" / "2" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    done = run(*changed(workplace, data=tmp_path / "images"), "-o", tmp_path / "o", "--json")
    assert done.returncode == 0, done.stderr
    assert any("1 image that cannot be read (2/1.png" in note for note in json.loads(done.stdout)["notes"])


def test_images_of_the_wrong_size_for_the_model(workplace, refused, tmp_path):
    refused(*changed(workplace, preprocess="mean=0/0/0,std=1/1/1,size=20"), words=["20", "12"])
    np.savez(tmp_path / "flat.npz", x=np.zeros((9, 12), np.uint8), y=np.zeros(9, int))
    refused(*changed(workplace, data=tmp_path / "flat.npz"), words=["flat.npz"])


def test_two_inputs(workplace, refused, tmp_path, model_of):
    path = tmp_path / "two.onnx"
    path.write_bytes(
        model_of(
            "(float[N,6] image, float[N,6] mask) => (float[N,6] y) { y = Mul(image, mask) }"
        ).proto.SerializeToString()
    )
    refused(*changed(workplace, model=path), words=["two.onnx has 2 inputs", "single input"])
    refused("check", path, words=["two.onnx has 2 inputs"])


def test_no_prunable_layer(workplace, refused):
    refused(
        *changed(workplace, keep_dense="conv"),
        words=["No prunable layer in small.onnx", "kept dense", "crisp-onnx check"],
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 1.2}, ["'sparsity'", "1.2 is out of range"]),
        ({"sparsity": -0.1}, ["'sparsity'", "out of range"]),
        ({"sparsity": 0.2}, ["--sparsity 0.2 keeps more than pattern 2:4", "at least 0.5"]),
        ({"macs": 0.3}, ["'sparsity' and 'macs'", "Keep one"]),
        ({"sparsity": None, "macs": 0.001}, ["--macs 0.001 cannot be met", "crisp-onnx check"]),
        ({"pattern": "4:2"}, ["Pattern 4:2", "1 <= N <= M"]),
        ({"pattern": "half"}, ["'half'", "N:M"]),
        ({"block": 18}, ["Block 18 is not a multiple of M = 4"]),
        ({"block": 0}, ["'block'", "0 is out of range; use 1 or more"]),
        ({"vector_rows": 3}, ["3 vector rows do not fit block 16"]),
        ({"saliency": "magnitud"}, ["'magnitud' is no saliency", "Did you mean 'magnitude'"]),
        ({"keep_dense": "layerX"}, ["'layerX' fits none"]),
        ({"keep_dense": "("}, ["'(' is not a regular expression"]),
        ({"epochs": -1}, ["'epochs'"]),
        ({"seed": -1}, ["'seed'"]),
        ({"device": "gpu"}, ["--device gpu", "--device cpu"]),
        ({"preprocess": "imagenot"}, ["imagenot"]),
    ],
)  # fmt: skip
def test_options_that_cannot_be(workplace, refused, options, words, tmp_path):
    refused(*changed(workplace, **options), "-o", tmp_path / "out", words=words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compress", "m.onnx", "--sparsity", "much"], "much is no share"),
        (["compress", "m.onnx", "--head", "cut"], "'cut' is not one of 'keep', 'slice'"),
        (["compres", "m.onnx"], "No such command 'compres'"),
        (["check"], "Missing argument 'MODEL'"),
        (["check", "m.onnx", "--spasity", "1"], "No such option"),
    ],
)
def test_usage_errors_exit_with_2(run, words, message):
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sparsty: 0.8\n", ["Unknown key 'sparsty'", "Did you mean 'sparsity'"]),
        ("sparsity: [0.8\n", ["not valid YAML"]),
        ("just words\n", ["no mapping of keys"]),
        ("1: 2\n", ["Unknown key 1"]),
        ("model: m\nclasses: c\nsparsity: lots\n", ["'sparsity'"]),
        ("model: m\nclasses: c\nsparsity: 0.8\nmacs: 0.2\n", ["'sparsity' and 'macs'"]),
        ("sparsity: 0.8\n", ["'model' is missing"]),
    ],
)
def test_recipes_at_fault(refused, tmp_path, content, words):
    (tmp_path / "run.yaml").write_text(content)
    refused("compress", "--recipe", tmp_path / "run.yaml", words=words)


def test_a_missing_recipe(refused, tmp_path):
    refused("compress", "--recipe", tmp_path / "no.yaml", words=["The recipe", "no.yaml"])


def test_an_output_folder_that_is_a_file_or_lies_under_one(workplace, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        refused(*workplace.options, "-o", out, words=["Cannot write to", out, "--output"])
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_folder_that_is_read_only(workplace, refused, tmp_path, monkeypatch):
    def denied(path: Path, mode: int = 0o777) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(*workplace.options, "-o", tmp_path / "out", words=["Cannot write to", "Permission denied", "--output"])
    refused(*workplace.options, "-o", tmp_path / "a" / "b", words=["Cannot write to"])


def test_a_result_that_would_overwrite_the_input(workplace, refused, tmp_path):
    shutil.copy(workplace.model, tmp_path / "model.onnx")
    refused(*changed(workplace, model=tmp_path / "model.onnx"), "-o", tmp_path, words=["would overwrite", "--output"])
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    refused(*changed(workplace, model=tmp_path / "model.onnx"), "-o", tmp_path / "link", words=["would overwrite"])


def test_a_result_that_would_overwrite_the_external_data_of_the_input(workplace, refused, tmp_path):
    path = external(workplace, tmp_path, "model.onnx.data")
    tensor = next(t for t in onnx.load(workplace.model).graph.initializer if t.name == "conv1.weight")
    (tmp_path / "model.onnx.data").write_bytes(numpy_helper.to_array(tensor).tobytes())
    refused(*changed(workplace, model=path), "-o", tmp_path, words=["would overwrite", "model.onnx.data"])


def test_a_disk_that_is_full_while_writing(workplace, refused, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_text("the old model")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(*workplace.options, "-o", out, "-q", words=["Cannot write", "No space left on device", "Free some space"])
    refused(*workplace.options, "-o", tmp_path / "new", "-q", words=["Cannot write", "No space left on device"])
    assert (out / "model.onnx").read_text() == "the old model"


def test_a_disk_that_is_full_at_the_report(workplace, refused, tmp_path, monkeypatch):
    real = Path.write_text

    def full(self: Path, text: str, **options: object) -> int:
        if self.name == "report.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, text, encoding="utf-8")

    monkeypatch.setattr(Path, "write_text", full)
    refused(
        *workplace.options, "-o", tmp_path / "x" / "out", "-q", words=["Cannot write to", "No space left on device"]
    )


def test_a_compressed_file_cannot_be_compressed_again(compressed, workplace, refused):
    refused(*changed(workplace, model=compressed / "model.onnx"), words=["is compressed already", "made from"])


def test_inspect_of_an_ordinary_model(workplace, refused):
    refused("inspect", workplace.model, words=["holds no hybrid operator", "did not write it"])


def test_a_defect_of_ours_is_one_sentence_and_a_traceback_only_with_v(workplace, run, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("crisp_onnx.api.check", broken)
    done = run("check", workplace.model)
    assert done.returncode == 1
    assert "ZeroDivisionError: a mistake. This is a defect of crisp-onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("check", workplace.model, "-v").stderr
