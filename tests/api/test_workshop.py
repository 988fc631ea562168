"""The hidden folder in which results are made: on the right disk, and gone at the end whatever happens."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from crisp_onnx.api.workshop import move_into_place, state_folder, workshop
from crisp_onnx.errors import CrispError
from crisp_onnx.writing import HIDDEN


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


@pytest.mark.parametrize("gone", ["parent", "hidden"])
def test_a_folder_that_is_taken_away_while_a_run_goes_on_is_said_to_be_gone(tmp_path, gone):
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(CrispError, match=r"a/out: the hidden folder .*crisp-.* removed"),
        workshop(tmp_path / "a/out") as bench,
    ):
        shutil.rmtree(tmp_path / "a" if gone == "parent" else bench.parent)
        (bench / "model").write_text("1")


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    said = {"file": "it is a file, not a folder", "dangling link": "out is a link to what is not there"}[kind]
    with pytest.raises(CrispError, match=said), workshop(out):
        pass
    assert out.is_symlink() or out.read_text() == "mine"


@pytest.mark.parametrize("exists", [True, False])
def test_a_second_run_into_the_same_folder_is_refused_and_disturbs_nothing(tmp_path, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with workshop(out) as bench:
        (bench / "model").write_text("1")
        with (
            pytest.raises(CrispError, match=r"Another run is writing to .*out\. Wait until it has ended"),
            workshop(out),
        ):
            pass
        assert (bench / "model").read_text() == "1"
        with workshop(tmp_path / "other"):  # beside it there is room
            pass
        move_into_place(bench, out, last="model")
    with workshop(out):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_that_began_before_the_folder_was_there_keeps_others_out_of_it(tmp_path):
    out = tmp_path / "out"
    with workshop(out):
        out.mkdir()
        with pytest.raises(CrispError, match="Another run is writing"), workshop(out):
            pass


def test_what_killed_runs_left_is_cleared_away_by_the_next(tmp_path):
    out = tmp_path / "out"
    for place in (out, None):
        child = os.fork()
        if not child:
            with workshop(out) as bench:
                (bench / "half").mkdir()
                (bench / "model").write_text("half")
                os._exit(9)
        os.waitpid(child, 0)
        assert any(path.name == "half" for path in tmp_path.rglob("*"))
        if place:
            out.mkdir()
            (out / "mine").write_text("mine")
    (out / ".crisp-0123abcd" / "x").mkdir(parents=True)  # as an older version named them
    (out / ".crisp-mine").mkdir()
    (out / ".crisp-switch" / "old").mkdir(parents=True)
    (out / ".crisp-switch" / "old" / "report").write_text("old")
    (out / ".crisp-switch" / "now").symlink_to("old")
    (out / "report").symlink_to(".crisp-switch/now/report")
    with workshop(out) as bench:
        assert list(bench.iterdir()) == []
        assert (out / "report").read_text() == "old"
    assert sorted(path.name for path in out.iterdir()) == [".crisp-mine", "mine", "report"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_living_run_elsewhere_keeps_its_folder_of_the_same_kind(tmp_path):
    with workshop(tmp_path / "inner") as bench, workshop(tmp_path) as outer:
        assert bench.exists()
        assert outer != bench
    assert list(tmp_path.iterdir()) == []


def test_without_locks_runs_take_folders_of_their_own_and_clear_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("crisp_onnx.api.workshop.hold", lambda folder: None)
    (tmp_path / ".crisp-0123abcd").mkdir()
    with workshop(tmp_path) as one, workshop(tmp_path) as other:
        assert one != other
    assert [path.name for path in tmp_path.iterdir()] == [".crisp-0123abcd"]


def test_the_path_of_an_unfinished_file_less_its_hidden_part_is_that_of_the_finished_one(tmp_path):
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there", tmp_path / "not there"):
        with workshop(out) as bench:
            assert HIDDEN.sub("", f"{bench}/model.onnx") == f"{out}/model.onnx"


def test_a_signal_during_the_switch_waits_for_its_end(tmp_path, monkeypatch):
    def interrupted(path: Path, target: Path) -> Path:
        signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    rename = Path.rename
    out = tmp_path / "out"
    out.mkdir()
    (out / "model").write_text("old")
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), workshop(out) as bench:
        (bench / "model").write_text("new")
        move_into_place(bench, out, last="model")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"model": "new"}


def test_a_folder_whose_path_is_not_utf8_is_refused_before_anything_is_made_there(tmp_path):
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/out"))
    with (
        pytest.raises(CrispError, match=r"caf\\xe9/out is not UTF-8.*Choose another folder with --output"),
        workshop(out),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_as_long_a_name_as_names_can_be_gets_its_results(tmp_path, resume):
    out = tmp_path / ("y" * 255)
    for text in ("1", "2"):
        with workshop(out, resume=resume) as bench:
            state_folder(bench).mkdir(exist_ok=True)
            (bench / "model").write_text(text)
            move_into_place(bench, out, last="model")
        assert (out / "model").read_text() == text
    assert [path.name for path in out.iterdir()] == ["model"]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("name", "said"), [("loop", "leads back to itself"), ("dangling", "to what is not there")])
def test_a_folder_that_is_a_link_to_nowhere_is_said_to_be_one(tmp_path, name, said):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone")
    with pytest.raises(CrispError, match=said), workshop(tmp_path / name):
        pass
