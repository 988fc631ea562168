"""Inputs are never overwritten, and a result needs a place to stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.writing import keep_inputs, require_place, require_possible


@pytest.mark.parametrize("way", ["same", "dots", "link to it", "link to its folder", "hard link"])
def test_a_result_that_would_replace_an_input_is_refused_by_whatever_name(tmp_path, way, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = tmp_path / "in.onnx"
    read.write_text("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(read)
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    os.link(read, tmp_path / "hard")
    output = {
        "same": read,
        "dots": tmp_path / "sub" / ".." / "in.onnx",
        "link to it": tmp_path / "link",
        "link to its folder": tmp_path / "folder" / "in.onnx",
        "hard link": tmp_path / "hard",
    }[way]
    with pytest.raises(CrispError, match=r"would overwrite .*in\.onnx, which is read\. Choose another\."):
        keep_inputs([tmp_path / "free", output], [None, read], "Choose another.")
    keep_inputs([tmp_path / "free"], [None, read], "Choose another.")


def test_a_folder_where_a_file_must_go_is_refused(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(CrispError, match=r"report\.json is a folder, and a file of the result goes there"):
        keep_inputs([tmp_path / "report.json"], [], "Choose another.")


def test_a_place_needs_a_folder_that_can_be_written(tmp_path):
    require_place(tmp_path / "plot.svg")
    for path in (tmp_path, tmp_path / "no" / "plot.svg"):
        with pytest.raises(CrispError, match="Cannot write"):
            require_place(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("y" * 256, "yyy[.]{3}: the name has 256 bytes, and 255 are allowed. Choose another"),
        ("no/" + "ü" * 128 + "/out", "the name has 256 bytes"),
        ("/".join(["y" * 200] * 20), "a path of 4[0-9]+ bytes: 3800 are allowed"),
        ("loop", "loop is a link that leads back to itself"),
        ("loop/out", "loop is a link that leads back to itself"),
        ("dangling", "dangling is a link to what is not there"),
        ("dangling/out/model.onnx", "dangling is a link to what is not there"),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_name_at_which_nothing_can_stand_is_refused_with_the_reason(tmp_path, monkeypatch, name, said, relative):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone")
    path = Path(name) if relative else tmp_path / name
    for ask in (
        lambda: require_possible(path, "Choose another."),
        lambda: keep_inputs([path], [tmp_path / "in"], "Choose another."),
        lambda: require_place(path),
    ):
        with pytest.raises(CrispError, match=said):
            ask()


@pytest.mark.parametrize("name", ["y" * 255, "link", "link/out", "a/b/c", "."])
def test_every_other_name_is_possible(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    require_possible(tmp_path / name, "Choose another.")
