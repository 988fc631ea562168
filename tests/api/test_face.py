"""What README and docs promise is there to import, and no function hides the module of its name."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from mypy import api as mypy

import crisp_onnx
from crisp_onnx.cli import cli

PACKAGE = Path(crisp_onnx.__file__).parent
COMMANDS = [name for name in cli.commands if name != "targets"] + ["targets", "calibrate"]

OTHER_NAMES = {"saliency": "make_bank"}  # a function may not hide the module of its name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_of_the_same_name(name: str) -> None:
    found = getattr(crisp_onnx, OTHER_NAMES.get(name, name))
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


def test_help_on_compress_says_what_a_recipe_holds() -> None:
    text = crisp_onnx.compress.__doc__ or ""
    for name, field in crisp_onnx.Recipe.model_fields.items():
        assert field.description, name
        assert f"\n    {name} (" in text


def test_the_snippets_of_the_readme_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (PACKAGE.parent / "README.md").read_text(), re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets):
        (tmp_path / f"snippet_{number}.py").write_text(snippet)
    # An editable install answers import hooks, which mypy does not ask.
    shutil.copytree(PACKAGE, tmp_path / "crisp_onnx", ignore=shutil.ignore_patterns("kernels", "*.so", "__pycache__"))
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-crisp_onnx.*]\nfollow_imports = silent\n"
        "[mypy-crisp_onnx.passes.*,torch.*,onnx.*,onnxruntime.*,onnx_graphsurgeon.*,numpy.*,PIL.*,rich.*,yaml.*]\n"
        "follow_imports = skip\nignore_missing_imports = True\n"
    )
    monkeypatch.chdir(tmp_path)
    said, errors, code = mypy.run(["--config-file", "mypy.ini", *sorted(map(str, tmp_path.glob("snippet_*.py")))])
    assert code == 0, said + errors
