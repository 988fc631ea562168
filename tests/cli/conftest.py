"""A small model, its images and one compressed copy, made once for all tests of the command line."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx.cli import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = (sys.executable, "-c", "from crisp_onnx.cli import main; main()")


@dataclass(frozen=True)
class Workplace:
    """`options`: what a run of `compress` needs and nothing more."""

    folder: Path
    model: Path
    data: Path
    classes: Path

    @property
    def options(self) -> list[str]:
        return [
            *("compress", str(self.model), "--classes", str(self.classes), "--data", str(self.data)),
            *("--epochs", "0", "--sparsity", "0.75", "--preprocess", "unit", "--target", "portable"),
        ]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("workplace")
    pairs = coloured_images(12)
    np.savez(folder / "data.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs]))
    (folder / "cls.txt").write_text("0\n2  # a comment\n4\n")
    return Workplace(folder, residual_classifier(folder / "small.onnx"), folder / "data.npz", folder / "cls.txt")


@pytest.fixture(scope="session")
def run() -> Run:
    """The command inside this process: torch is imported once for all tests."""

    def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        words = list(map(str, arguments))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["crisp-onnx", *words])
            if cwd is not None:
                patch.chdir(cwd)
            with pytest.raises(SystemExit) as end:
                main()
        return subprocess.CompletedProcess(words, int(end.value.code or 0), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def run_process() -> Run:
    """The command in a process of its own, as a user runs it."""

    def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
        )

    return call


@pytest.fixture(scope="session")
def compressed(workplace: Workplace, run: Run) -> Path:
    """The folder of one finished run."""
    out = workplace.folder / "out"
    done = run(*workplace.options, "-o", out)
    assert done.returncode == 0, done.stderr
    (workplace.folder / "summary.txt").write_text(done.stdout)
    return out
