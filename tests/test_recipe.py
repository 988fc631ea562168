"""Recipes: what is written repeats the run from anywhere, and what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe, input_files, make_recipe, merged, options_without_paths, read_recipe, recipe_text

GIVEN = {"model": Path("m.onnx"), "classes": (1, "cat"), "keep_dense": ("stem",)}


def test_a_written_recipe_reads_back_as_the_same_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(GIVEN | {"sparsity": 0.9, "preprocess": "own.yaml", "output": Path("out")})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recipe.yaml").write_text(recipe_text(recipe))
    monkeypatch.chdir("/")
    again = make_recipe(read_recipe(tmp_path / "out" / "recipe.yaml"))
    assert again.model.resolve() == tmp_path / "m.onnx"
    assert Path(again.preprocess).resolve() == tmp_path / "own.yaml"
    assert again.output is None
    same = {"model", "preprocess", "output"}
    assert again.model_dump(exclude=same) == recipe.model_dump(exclude=same)


def test_a_folder_with_model_and_result_may_be_moved(tmp_path, monkeypatch):
    (tmp_path / "here" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    recipe = make_recipe(GIVEN | {"data": Path("images"), "output": Path("out"), "target": "own.yaml"})
    (tmp_path / "here" / "out" / "recipe.yaml").write_text(recipe_text(recipe))
    (tmp_path / "here").rename(tmp_path / "there")
    again = make_recipe(read_recipe(tmp_path / "there" / "out" / "recipe.yaml"))
    assert [path.resolve() for path in input_files(again)] == [
        tmp_path / "there" / name for name in ("m.onnx", "images", "own.yaml")
    ]


def test_relative_paths_in_a_recipe_are_relative_to_it(tmp_path):
    (tmp_path / "run.yaml").write_text("model: m.onnx\nclasses: cls.txt\ndata: /abs/data\npreprocess: p.yml\n")
    options = read_recipe(tmp_path / "run.yaml")
    assert options["model"] == tmp_path / "m.onnx"
    assert options["classes"] == tmp_path / "cls.txt"
    assert options["data"] == Path("/abs/data")
    assert options["preprocess"] == str(tmp_path / "p.yml")


def test_presets_and_explicit_numbers_are_no_paths(tmp_path):
    (tmp_path / "run.yaml").write_text("preprocess: mean=0.5/0.5/0.5,std=1/1/1,size=32\n")
    assert read_recipe(tmp_path / "run.yaml")["preprocess"] == "mean=0.5/0.5/0.5,std=1/1/1,size=32"
    assert "preprocess: imagenet" in recipe_text(make_recipe(GIVEN | {"preprocess": "imagenet"}))


@pytest.mark.parametrize("key", ["sparsty", "epoch", "keepdense", "vector_row", "mac"])
def test_an_unknown_key_names_the_nearest(key):
    known = {
        "sparsty": "sparsity",
        "epoch": "epochs",
        "keepdense": "keep_dense",
        "vector_row": "vector_rows",
        "mac": "macs",
    }
    with pytest.raises(CrispError, match=rf"Unknown key '{key}' in options\. Did you mean '{known[key]}'"):
        make_recipe(GIVEN | {key: 1})


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.2])
@pytest.mark.parametrize("budget", ["sparsity", "macs"])
def test_shares_outside_0_and_1_are_refused(budget, share):
    with pytest.raises(CrispError, match=f"'{budget}' in options: .* is out of range"):
        make_recipe(GIVEN | {budget: share})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("speedup", 0.5, "0.5 is out of range (1 is as fast as the source); use more than 1"),
        ("epochs", -1, "-1 is out of range (0 is no training); use 0 or more"),
        ("round_channels", 0, "0 is out of range; use 1 or more"),
    ],
)
def test_a_number_out_of_range_is_told_what_to_use_instead(option: str, value: float, words: str) -> None:
    with pytest.raises(CrispError, match=re.escape(words)):
        make_recipe({"model": "m.onnx", "classes": (0,), option: value})


def test_two_budgets_are_refused_and_none_is_allowed():
    with pytest.raises(CrispError, match="one budget decides"):
        make_recipe(GIVEN | {"sparsity": 0.8, "macs": 0.2})
    assert make_recipe(GIVEN).sparsity is None


@pytest.mark.parametrize("budget", ["latency_ms", "energy_mj"])
def test_budgets_on_a_target_are_above_0_and_alone(budget):
    for value in (0, -1, float("inf"), float("nan")):
        with pytest.raises(CrispError, match=f"'{budget}' in options"):
            make_recipe(GIVEN | {budget: value})
    with pytest.raises(CrispError, match=f"'macs' and '{budget}'; one budget decides"):
        make_recipe(GIVEN | {budget: 1, "macs": 0.2})


def test_a_target_file_is_found_from_anywhere_and_stays_out_of_the_metadata(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(GIVEN | {"target": Path("mine.yaml"), "preprocess": "imagenet"})
    (tmp_path / "m-crisp").mkdir()
    (tmp_path / "m-crisp" / "recipe.yaml").write_text(recipe_text(recipe))
    monkeypatch.chdir("/")
    again = make_recipe(read_recipe(tmp_path / "m-crisp" / "recipe.yaml"))
    assert Path(again.target).resolve() == tmp_path / "mine.yaml"
    assert not options_without_paths(again).keys() & {"target", "model", "output"}
    assert options_without_paths(again)["preprocess"] == "imagenet"
    named = make_recipe(GIVEN | {"target": "x86_avx512"})
    assert options_without_paths(named)["target"] == "x86_avx512"
    assert "target: x86_avx512" in recipe_text(named)


def test_a_recipe_cannot_be_changed_and_knows_where_results_go():
    recipe = make_recipe(GIVEN)
    assert recipe.folder == Path("m-crisp")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    assert set(Recipe.model_fields) >= {"model", "classes", "pattern", "block", "vector_rows", "seed"}


def test_what_timing_chose_goes_where_the_command_line_changes_the_run(tmp_path):
    run = GIVEN | {"sparsity": 0.7, "model": tmp_path / "m.onnx", "packed": ("conv1",), "output": tmp_path}
    (tmp_path / "run.yaml").write_text(recipe_text(make_recipe(run)))
    written = read_recipe(tmp_path / "run.yaml")
    same = {"model": tmp_path / "m.onnx", "sparsity": 0.7, "output": tmp_path / "other", "eval_data": tmp_path / "e"}
    assert make_recipe(merged(written, same)).packed == ("conv1",)
    for key, value in (("sparsity", 0.8), ("macs", 0.2), ("model", tmp_path / "n.onnx"), ("seed", 1)):
        recipe = make_recipe(merged(written, {key: value}))
        assert recipe.packed is None
        assert getattr(recipe, key) == value
    assert make_recipe(merged(written, {"macs": 0.2})).sparsity is None


@pytest.mark.parametrize("seed", [-1, 2**64, 10**400, 1.5, float("nan"), "many"])
def test_a_seed_that_no_generator_takes_is_refused(seed: object) -> None:
    with pytest.raises(CrispError, match="'seed' in options"):
        make_recipe({**GIVEN, "seed": seed})
    assert make_recipe({**GIVEN, "seed": 2**64 - 1}).seed == 2**64 - 1


@pytest.mark.parametrize("classes", [[True, False], [0.0, 2], (1, 2.5)])
def test_classes_are_indices_or_names(classes: Any) -> None:
    with pytest.raises(CrispError, match="neither an output index nor a name; write names in quotes"):
        make_recipe({"model": Path("m.onnx"), "classes": classes})


def test_a_recipe_names_the_links_that_the_run_was_given_and_not_what_they_lead_to(tmp_path, monkeypatch):
    """As the cache of Hugging Face has it: blobs without suffix, and a model's data beside its link."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots").mkdir()
    for name in ("m.onnx", "d.npz", "p.yaml"):
        (tmp_path / "blobs" / name[0]).write_text("")
        (tmp_path / "snapshots" / name).symlink_to(f"../blobs/{name[0]}")
    (tmp_path / "way").symlink_to("snapshots")
    monkeypatch.chdir(tmp_path / "way")
    recipe = make_recipe(
        GIVEN | {"model": Path("m.onnx"), "data": Path("../way/d.npz"), "preprocess": "p.yaml", "output": Path("out")}
    )
    Path("out").mkdir()
    Path("out/recipe.yaml").write_text(recipe_text(recipe))
    again = make_recipe(read_recipe(Path("out/recipe.yaml")))
    assert (again.model.name, again.data.name, Path(again.preprocess).name) == ("m.onnx", "d.npz", "p.yaml")
    assert all(path.is_file() for path in input_files(again))
    for given in (".", "..", "out/.."):
        Path("out/recipe.yaml").write_text(recipe_text(recipe.model_copy(update={"data": Path(given)})))
        assert read_recipe(Path("out/recipe.yaml"))["data"].resolve() == Path(given).resolve()
