"""A private folder: ours, closed to others, and never one that somebody else has made or can replace."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from crisp_onnx import private
from crisp_onnx.private import private_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes and owners of POSIX")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder; fresh folders are made beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "cache" / "crisp_onnx"


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_it_is_made_for_this_user_alone_and_found_again(cache: Path) -> None:
    folder = private_folder("code")
    assert folder == cache / "code" == private_folder("code")
    assert mode(folder) == 0o700


def test_one_that_others_could_read_is_closed(cache: Path) -> None:
    (cache / "code").mkdir(parents=True)
    (cache / "code").chmod(0o755)
    assert private_folder("code") == cache / "code"
    assert mode(cache / "code") == 0o700


@pytest.mark.parametrize("open_to", [0o777, 0o1777, 0o770])
def test_one_that_others_could_put_something_into_is_not_used(cache: Path, tmp_path: Path, open_to: int) -> None:
    (cache / "code").mkdir(parents=True)
    (cache / "code").chmod(open_to)
    assert private_folder("code").parent == tmp_path


def test_a_link_in_its_place_is_not_followed(cache: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (cache / "code").symlink_to(tmp_path / "elsewhere")
    folder = private_folder("code")
    assert folder.parent == tmp_path and folder.name.startswith("crisp_onnx-code-")
    assert mode(folder) == 0o700


def test_what_lies_in_a_folder_that_anybody_may_change_is_not_used(cache: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert private_folder("code").parent == tmp_path
    cache.chmod(0o1777)  # sticky, as /tmp is: nobody can replace what is ours
    assert private_folder("code") == cache / "code"


def test_one_that_belongs_to_another_user_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "code").mkdir(parents=True)
    monkeypatch.setattr(private, "_user", lambda: os.geteuid() + 1)
    assert private_folder("code").parent == tmp_path


def test_without_a_home_a_fresh_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(private, "cache_folder", lambda: None)
    first, second = private_folder("code"), private_folder("code")
    assert first != second and mode(first) == mode(second) == 0o700
