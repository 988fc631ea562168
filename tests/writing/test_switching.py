"""A folder of results is switched in one step: dead at any call, it shows all old or all new files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from crisp_onnx.api.workshop import move_into_place
from crisp_onnx.writing import SWITCH, settle

OLD, NEW = {"model": "old", "report": "old", "page": "old"}, {"model": "new", "report": "new", "recipe": "new"}
CALLS = ("link", "symlink", "replace", "rename", "mkdir", "unlink", "rmdir", "fsync", "chmod")


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def seen(folder: Path) -> dict[str, str]:
    """What a reader finds, through links or not."""
    return {name: (folder / name).read_text() for name in (*OLD, *NEW) if (folder / name).exists()}


def move(root: Path) -> None:
    bench = write(root / "out" / ".crisp-00000000", NEW)
    move_into_place(bench, root / "out", last="model", stale=("page",))


def dies_at(number: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that dies as by `kill -9` before its call `number` to the file system."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = number

    def mortal(call: Callable[..., object]) -> Callable[..., object]:
        def made(*arguments: object, **options: object) -> object:
            nonlocal left
            if not left:
                os._exit(9)
            left -= 1
            return call(*arguments, **options)

        return made

    for name in CALLS:
        setattr(os, name, mortal(getattr(os, name)))
    try:
        action()
    finally:
        os._exit(0)


@pytest.mark.parametrize("before", [OLD, {}, {"mine": "mine"}], ids=["over a result", "empty", "beside other files"])
def test_whenever_it_dies_the_folder_shows_all_old_or_all_new_files(tmp_path, before):
    kept = {name: text for name, text in before.items() if name in OLD}
    shown, number, died = [], 0, True
    while died:
        root = tmp_path / str(number)
        write(root / "out", before)
        died = dies_at(number, lambda root=root: move(root))
        shown.append(seen(root / "out"))
        assert shown[-1] in (kept, NEW)
        settle(root / "out")
        assert seen(root / "out") == shown[-1]
        assert not any(path.is_symlink() or path.name == SWITCH for path in (root / "out").iterdir())
        assert (root / "out" / "mine").exists() == ("mine" in before)
        number += 1
    assert number > 20
    assert shown[0] == kept
    assert shown[-1] == NEW
    assert shown == sorted(shown, key=lambda files: files == NEW)  # one step, never back


def test_without_links_files_are_replaced_one_by_one_the_main_one_last(tmp_path, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("no links here")

    order = []
    replace = Path.replace
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append(path.name) or replace(path, target))
    write(tmp_path / "out", OLD)
    move(tmp_path)
    assert seen(tmp_path / "out") == NEW
    assert order[-1] == "model"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NEW)


@pytest.mark.parametrize("failing", ["symlink", "link", "rename"])
@pytest.mark.parametrize("call", range(4))
def test_a_file_system_that_fails_in_the_middle_still_gets_the_new_files(tmp_path, monkeypatch, failing, call):
    real, calls = getattr(os, failing), []

    def fails(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(28, "No space left on device")
        real(*arguments, **options)

    monkeypatch.setattr(os, failing, fails)
    write(tmp_path / "out", OLD)
    move(tmp_path)
    assert seen(tmp_path / "out") == NEW
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NEW)


def test_writers_at_the_same_time_leave_the_files_of_one(tmp_path):
    out = write(tmp_path / "out", {})
    names = ("model.onnx", "model.onnx.data", "recipe.yaml", "report.html", "report.json")
    start = threading.Barrier(4)

    def run(tag: str, number: int) -> None:
        bench = write(out / f".crisp-{tag}{number}", dict.fromkeys(names, tag))
        start.wait()
        move_into_place(bench, out, last="model.onnx", stale=("model.onnx.data", "report.html"))

    for number in range(50):
        threads = [threading.Thread(target=run, args=(tag, number)) for tag in "ABCD"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({(out / name).read_text() for name in names}) == 1
    assert sorted(path.name for path in out.iterdir()) == sorted(names)


def test_a_link_of_the_user_in_the_place_of_a_result_loses_its_name_and_nothing_else(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    write(tmp_path / "out", {})
    (tmp_path / "out" / "model").symlink_to(elsewhere)
    move(tmp_path)
    assert seen(tmp_path / "out") == NEW
    assert elsewhere.read_text() == "mine"


def test_what_a_switch_cut_short_shows_is_as_readable_as_the_folder(tmp_path):
    for number in range(60):
        out = write(tmp_path / str(number) / "out", OLD)
        out.chmod(0o755)
        dies_at(number, lambda root=out.parent: move(root))
        for link in [path for path in out.iterdir() if path.is_symlink() and path.exists()]:
            assert all(path.stat().st_mode & 0o005 == 0o005 for path in link.resolve().parents[:2])
