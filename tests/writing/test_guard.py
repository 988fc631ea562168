"""Inputs are never overwritten, and a result needs a place to stand."""

from __future__ import annotations

import os

import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.writing import keep_inputs, require_place


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
