"""A hardware target gives the pattern, and a budget of its milliseconds or energy decides what is kept."""

from __future__ import annotations

import json

import pytest
import yaml

from crisp_onnx.lowering import load_target, lower
from crisp_onnx.model import load

TARGET = "stc_edge_int8"


def steered(workplace, out, *more, target=TARGET, keep_sparsity=False):
    """The options of a run for a hardware target, without a sparsity unless it is kept."""
    words = list(workplace.options)
    words[words.index("--target") + 1] = str(target)
    if not keep_sparsity:
        at = words.index("--sparsity")
        words[at : at + 2] = []
    return [*words, *more, "-o", out]


def dense_cost(workplace, objective):
    from crisp_onnx.cost import estimate

    target = load_target(TARGET)
    found = estimate(lower(load(workplace.model), target, size=(12, 12)), target).dense
    return found.latency_ms if objective == "latency_ms" else found.nominal_uj / 1e3


def report_of(run, words):
    done = run(*words, "--json", "-q")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_target_gives_the_pattern_that_the_user_did_not(workplace, run, tmp_path):
    words = steered(workplace, tmp_path / "o", "--block", "16", keep_sparsity=True)
    report = report_of(run, words)
    sparse = [layer for layer in report["layers"] if layer["decision"] == "sparse"]
    assert {(s["n"], s["m"], s["block"], s["vector_rows"]) for s in sparse} == {(2, 4, 16, 1)}
    assert any("The target chose the pattern" in note and TARGET in note for note in report["notes"])
    written = yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())
    assert (written["target"], written["block"], written["vector_rows"]) == (TARGET, 16, 1)
    again = run("compress", "--recipe", tmp_path / "o" / "recipe.yaml", "-o", tmp_path / "again", "-q")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (tmp_path / "o" / "model.onnx").read_bytes()


@pytest.mark.parametrize("objective", ["latency_ms", "energy_mj"])
@pytest.mark.parametrize("epochs", ["0", "2"])
def test_a_budget_on_the_target_is_met_and_reported(workplace, run, tmp_path, objective, epochs):
    limit = 0.9 * dense_cost(workplace, objective)
    option = "--" + objective.replace("_", "-")
    words = steered(workplace, tmp_path / "o", option, limit, "--block", "16", "--epochs", epochs)
    report = report_of(run, words)
    (budget,) = report["budgets"]
    assert (budget["name"], budget["met"]) == (objective, True)
    assert budget["asked"] == limit
    assert 0 < budget["reached"] <= limit * 1.005
    assert any(layer["decision"] == "sparse" for layer in report["layers"])
    assert report["equivalence"]["worst_relative"] <= 1e-5


def test_a_budget_of_the_dense_model_prunes_nothing(workplace, run, tmp_path):
    limit = 1.1 * dense_cost(workplace, "latency_ms")
    for epochs in ("0", "1"):
        words = steered(workplace, tmp_path / epochs, "--latency-ms", limit, "--block", "16", "--epochs", epochs)
        report = report_of(run, words)
        assert all(layer["decision"] == "dense" for layer in report["layers"])
        assert report["budgets"][0]["met"]


def test_a_users_own_target_file_works_and_stays_out_of_the_metadata(workplace, run, tmp_path):
    from crisp_onnx.lowering.target import targets_folder

    text = (targets_folder() / f"{TARGET}.yaml").read_text().replace(f"name: {TARGET}", "name: mine")
    (tmp_path / "mine.yaml").write_text(text)
    words = steered(workplace, tmp_path / "o", "--block", "16", target=tmp_path / "mine.yaml", keep_sparsity=True)
    report_of(run, words)
    recorded = json.loads(load(tmp_path / "o" / "model.onnx").metadata["pkg.crisp_onnx.recipe"])
    assert "target" not in recorded
    assert yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())["target"] == "../mine.yaml"


@pytest.mark.parametrize(
    ("more", "target", "words"),
    [
        (["--latency-ms", "0.0001"], TARGET, ["--latency-ms 0.0001 cannot be met on stc_edge_int8", "at least"]),
        (["--latency-ms", "0"], TARGET, ["'latency_ms'", "use more than 0"]),
        (["--latency-ms", "nan"], TARGET, ["'latency_ms'"]),
        (["--energy-mj", "1"], "portable", ["--energy-mj needs a hardware target", "calibrate"]),
        (["--latency-ms", "1", "--sparsity", "0.8"], TARGET, ["'sparsity' and 'latency_ms'", "one budget decides"]),
        (["--latency-ms", "1"], "abacus", ["Unknown target 'abacus'"]),
        ([], "coral_edge_tpu", ["coral_edge_tpu skips no zeros"]),
        ([], "none.yaml", ["none.yaml"]),
    ],
)
def test_what_a_target_cannot_do_is_refused(workplace, run, tmp_path, more, target, words):
    block = [] if target == "coral_edge_tpu" else ["--block", "16"]
    done = run(*steered(workplace, tmp_path / "o", *more, *block, target=target))
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "o").exists()


def test_a_budget_on_the_command_line_replaces_the_one_of_the_recipe(workplace, run, tmp_path):
    limit = 0.9 * dense_cost(workplace, "latency_ms")
    report_of(run, steered(workplace, tmp_path / "o", "--latency-ms", limit, "--block", "16"))
    words = ["compress", "--recipe", tmp_path / "o" / "recipe.yaml", "--sparsity", "0.6", "-o", tmp_path / "p"]
    assert [budget["name"] for budget in report_of(run, words)["budgets"]] == ["sparsity"]
