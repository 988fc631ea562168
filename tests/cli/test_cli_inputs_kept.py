"""No command writes over what it reads, and what stands in the way is found out before any work is done."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def kept(run, tmp_path):
    """Run a command that must be refused, and that must leave every file as it was."""

    def call(*arguments: object, words: str) -> None:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        done: subprocess.CompletedProcess[str] = run(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    return call


def into(tmp_path: Path, *files: Path) -> list[Path]:
    (tmp_path / "out").mkdir()
    return [Path(shutil.copy(file, tmp_path / "out")) for file in files]


def test_a_recipe_is_not_replaced_by_that_of_its_own_run(workplace, compressed, kept, tmp_path):
    shutil.copytree(compressed, tmp_path / "out")
    recipe = tmp_path / "out" / "recipe.yaml"
    (tmp_path / "here.yaml").symlink_to(recipe)
    for name in (recipe, tmp_path / "here.yaml"):
        kept(*workplace.options, "--recipe", name, "-o", tmp_path / "out", words="would overwrite")


@pytest.mark.parametrize("option", ["--classes", "--labels", "--data", "--eval-data", "--preprocess"])
def test_no_input_of_compress_is_replaced(workplace, kept, tmp_path, option):
    (tmp_path / "out").mkdir()
    name, source = {
        "--classes": ("report.json", workplace.classes),
        "--labels": ("report.html", workplace.classes),
        "--data": ("model.onnx", workplace.data),
        "--eval-data": ("report.json", workplace.data),
        "--preprocess": ("recipe.yaml", workplace.classes),
    }[option]
    given = tmp_path / "out" / name
    if option == "--labels":
        given.write_text("".join(f"name {number}\n" for number in range(6)))
    elif option == "--preprocess":
        given.write_text("mean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\n")
    else:
        shutil.copy(source, given)
    words = [*workplace.options, option, given, "-o", tmp_path / "out"]
    if option in ("--data", "--eval-data"):  # told from other files by their name
        given.rename(given.with_name("data.npz"))
        given.symlink_to("data.npz")
        words[-3] = given.with_name("data.npz")
    kept(*words, words="would overwrite")


@pytest.mark.parametrize("name", ["model.onnx", "report.json", "recipe.yaml", "report.html"])
def test_a_folder_in_the_place_of_a_result_is_refused_before_training(workplace, kept, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    kept(*workplace.options, "--epochs", "100000", "-o", tmp_path / "out", words=f"{name} is a folder")


def test_lower_and_estimate_keep_their_models_and_targets(compressed, kept, tmp_path):
    [model] = into(tmp_path, compressed / "model.onnx")
    kept("lower", model, "--target", "stc_edge_int8", "-o", model, words="would overwrite")
    # A target whose own tools find sparsity gets a model of its own beside the result, under the result's name.
    kept("lower", model, "--target", "nvidia_a100", "-o", model.with_suffix(".json"), words="would overwrite")
    kept("lower", model, "--target", "nvidia_a100", "-o", tmp_path / "new.onnx", words="must end in .json")
    kept("estimate", model, "--target", "stc_edge_int8", "--plot", model, words="would overwrite")
    kept("estimate", model, "--target", "stc_edge_int8", "--plot", tmp_path / "no" / "a.svg", words="Cannot write")


def test_bench_and_calibrate_keep_theirs(compressed, kept, tmp_path):
    [model] = into(tmp_path, compressed / "model.onnx")
    plot = model.rename(model.with_suffix(".svg"))
    kept("bench", plot, "--plot", plot, words="would overwrite")
    kept("targets", "calibrate", "-o", tmp_path / "no" / "mine.yaml", words="Cannot write")
    (tmp_path / "folder.yaml").mkdir()
    kept("targets", "calibrate", "-o", tmp_path / "folder.yaml", words="is a folder")


@pytest.mark.parametrize(
    "words",
    [
        ("estimate", "MODEL", "--target", "stc_edge_int8", "--html", "OTHER"),
        ("estimate", "MODEL", "--target", "stc_edge_int8", "--plot", "OTHER"),
        ("lower", "MODEL", "--target", "stc_edge_int8", "-o", "OTHER"),
        ("saliency", "MODEL", "--data", "OTHER", "-o", "OTHER.bin"),
        ("saliency", "--merge", "MODEL", "OTHER", "-o", "OTHER.bin"),
        ("bench", "MODEL", "--plot", "OTHER"),
        ("targets", "calibrate", "-o", "OTHER"),
    ],
)
def test_a_result_never_takes_the_name_of_another_kind_of_file(compressed, run, tmp_path, words):
    other = tmp_path / "digits.onnx"
    other.write_bytes(b"a user's model")
    places = {"MODEL": compressed / "model.onnx", "OTHER": other, "OTHER.bin": other.with_suffix(".bin")}
    done = run(*(places.get(word, word) for word in words))
    assert done.returncode == 2
    assert "must end in" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["digits.onnx"]
    assert other.read_bytes() == b"a user's model"
