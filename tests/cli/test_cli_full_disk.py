"""A full disk for temporary files costs a run its timing of layers, never its result."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import pytest

from crisp_onnx.runtime import profit


@pytest.fixture
def full_folder(tmp_path):
    """A file system of its own, without any room left."""
    place = tmp_path / "full"
    place.mkdir()
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a disk that is full")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this system lets nobody mount")
    try:
        with (place / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_where_layers_cannot_be_timed_the_run_is_written_and_says_why(
    workplace, run, full_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(full_folder))
    monkeypatch.setenv("TMPDIR", str(full_folder))
    for kept in (profit,):
        for value in vars(kept).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    words = [word for word in workplace.options if word not in ("--target", "portable")]
    done = run(*words, "-o", tmp_path / "out")
    assert done.returncode in (0, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert {"model.onnx", "report.json", "recipe.yaml"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert "set TMPDIR" in done.stdout + done.stderr
