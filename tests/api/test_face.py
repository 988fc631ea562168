"""What README and docs promise is there to import, and no function hides the module of its name."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import crisp_onnx
from crisp_onnx.cli import cli

PACKAGE = Path(crisp_onnx.__file__).parent
COMMANDS = [name for name in cli.commands if name != "targets"] + ["targets", "calibrate"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_of_the_same_name(name: str) -> None:
    found = getattr(crisp_onnx, name)
    assert callable(found)
    assert found.__doc__


def test_every_promised_name_is_there_and_listed() -> None:
    assert all(getattr(crisp_onnx, name) is not None for name in crisp_onnx.__all__)
    assert set(dir(crisp_onnx)) == set(crisp_onnx.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert crisp_onnx.__version__ == metadata.version("crisp-onnx")


def test_it_runs_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "crisp_onnx", "--version"], capture_output=True, text=True, check=True)
    assert metadata.version("crisp-onnx") in ran.stdout


def test_importing_it_does_not_wait_for_torch() -> None:
    code = "import sys, crisp_onnx; crisp_onnx.__version__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("init", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_no_name_of_a_package_hides_one_of_its_modules(init: Path) -> None:
    names = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(init.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not names & modules
