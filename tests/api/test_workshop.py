"""The hidden folder in which results are made: on the right disk, and gone at the end whatever happens."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crisp_onnx.api.workshop import move_into_place, workshop
from crisp_onnx.errors import CrispError


def test_results_appear_together_at_the_end(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with workshop(out) as bench:
        (bench / "model").write_text("1")
        (bench / "report").write_text("2")
        assert not out.exists()
        move_into_place(bench, out, last="model", stale=())
    assert {file.name for file in out.iterdir()} == {"model", "report"}
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


def test_an_existing_folder_holds_the_workshop_itself_as_it_may_be_a_mounted_disk(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model", "stale", "mine"):
        (out / name).write_text("old")
    with workshop(out) as bench:
        assert bench.parent == out
        (bench / "model").write_text("new")
        move_into_place(bench, out, last="model", stale=("model", "stale", "absent"))
    assert {file.name: file.read_text() for file in out.iterdir()} == {"model": "new", "mine": "old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CrispError("no"), ValueError("no")])
def test_whatever_ends_a_run_early_leaves_no_trace(tmp_path, error):
    with pytest.raises(type(error)), workshop(tmp_path / "a" / "out") as bench:
        (bench / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_folders_made_on_the_way_are_removed_when_the_workshop_cannot_be_made(tmp_path, monkeypatch):
    make = Path.mkdir

    def deny_the_bench(path: Path, mode: int = 0o777) -> None:
        if path.name.startswith(".crisp-"):
            raise PermissionError(errno.EACCES, "Permission denied")
        make(path, mode)

    monkeypatch.setattr(Path, "mkdir", deny_the_bench)
    with pytest.raises(CrispError, match=r"Cannot write to .*Permission denied"), workshop(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "b", ".crisp-"])
def test_an_interruption_right_after_a_folder_was_made_leaves_no_trace(tmp_path, monkeypatch, name):
    make = Path.mkdir

    def make_and_interrupt(path: Path, mode: int = 0o777) -> None:
        make(path, mode)
        if path.name.startswith(name):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt), workshop(tmp_path / "a" / "b" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_from_an_input_that_went_away(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(CrispError, match=r"Cannot write to .*out: No space left\. Free some space"), workshop(out):
        raise OSError(errno.ENOSPC, "No space left")
    with pytest.raises(CrispError, match=r"Cannot read /data/1\.png: No such file"), workshop(out):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/data/1.png")
    with pytest.raises(CrispError, match="Cannot write to"), workshop(out) as bench:
        raise PermissionError(errno.EACCES, "Permission denied", str(bench / "model"))


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CrispError, match="it is a file, not a folder"), workshop(out):
        pass
    assert out.is_symlink() or out.read_text() == "mine"
