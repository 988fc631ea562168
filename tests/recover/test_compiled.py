"""Compiling: where torch keeps the code that it loads and runs again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from crisp_onnx.recover import compiled as module
from crisp_onnx.recover.compiled import MIN_STEPS, compiled

CPU = torch.device("cpu")


def compile_one(steps: int = MIN_STEPS) -> object:
    return compiled(nn.Linear(2, 2), steps=steps, pixels=4, device=CPU)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, and no word of torch's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda module, options: options)
    return tmp_path / "crisp_onnx" / "torch"


def test_compiled_code_is_kept_in_a_private_folder(place: Path) -> None:
    compile_one()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(place)
    assert place.stat().st_mode & 0o777 == 0o700


def test_what_torch_has_named_itself_is_not_the_users_word(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(module._torchs_own_place()))
    compile_one()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(place)


def test_a_folder_that_the_user_names_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere/else")
    compile_one()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/somewhere/else"
    assert not place.exists()


def test_few_steps_are_not_compiled_and_no_folder_is_made(place: Path) -> None:
    assert isinstance(compile_one(steps=1), nn.Linear)
    assert not place.exists()


def test_without_any_folder_training_runs_uncompiled(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(name: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "private_folder", full)
    assert isinstance(compile_one(), nn.Linear)
    assert "No space left" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes and owners of POSIX")
def test_torchs_own_place_is_claimed_or_its_headers_are_not_used(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(torch, "compile", lambda module, options: told.append(options))
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    own = tmp_path / "torchinductor_me"
    compile_one()
    assert own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    own.symlink_to(tmp_path)  # what another user could have made
    compile_one()
    assert told == [{}, {"cpp_cache_precompile_headers": False}]
