"""What the commands write and print when all is well."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir
import onnxslim
import pytest
import yaml

from crisp_onnx.format import DOMAIN, HYBRID_OPS
from crisp_onnx.runtime import runtime_text


def test_compress_writes_model_report_and_recipe_and_nothing_else_stays(workplace, compressed):
    names = {file.name for file in compressed.iterdir()}
    assert (
        {"model.onnx", "report.json", "recipe.yaml"}
        <= names
        <= {"model.onnx", "report.json", "recipe.yaml", "report.html"}
    )
    assert not [file for file in workplace.folder.iterdir() if file.name.startswith(".")]


def test_compress_prints_one_table_before_and_after(workplace, compressed):
    text = (workplace.folder / "summary.txt").read_text()
    for word in (
        "Before and after",
        "file",
        "MACs per image",
        "accuracy, 3 classes",
        "latency",
        f"Written to {compressed}",
    ):
        assert word in text
    assert text.count("Before and after") == 1


def test_the_budget_is_met_and_the_bytes_are_those_of_the_formula(compressed):
    report = json.loads((compressed / "report.json").read_text())
    assert report["sparsity"]["weights"] == pytest.approx(0.75, abs=0.005)
    assert report["budgets"][0]["met"]
    assert report["file"]["bytes"] == sum(f.stat().st_size for f in compressed.glob("model.onnx*"))
    assert report["file"]["bytes_dense"] > report["file"]["bytes"] > report["file"]["bytes_formula"]
    assert report["equivalence"]["worst_relative"] <= 1e-5


def executed_macs(path, positions):
    """Of one image, by the weight's name: an ordinary operator multiplies by zeros too, a hybrid one does not."""
    proto = onnx.load(path)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            found[node.input[1]] = stored[node.input[1]].size * positions[node.op_type]
        elif node.op_type in HYBRID_OPS:
            (values,) = [name for name in node.input if name.endswith(".values")]
            found[values.removesuffix(".values")] = np.count_nonzero(stored[values]) * positions["Conv"]
    return found


@pytest.mark.parametrize("emission", ["hybrid", "dense"])
def test_the_macs_that_count_as_kept_are_those_that_the_file_executes(workplace, run, compressed, tmp_path, emission):
    out = compressed
    if emission == "dense":
        out = tmp_path / "o"
        assert run(*workplace.options, "--emit", "dense", "-q", "-o", out).returncode == 0
    report = json.loads((out / "report.json").read_text())
    counted = executed_macs(out / "model.onnx", {"Conv": 12 * 12, "Gemm": 1})
    assert {layer["weight"]: layer["macs_executed"] for layer in report["layers"]} == counted
    assert sum(counted.values()) == report["macs"]["kept"]
    assert sum(layer["macs"] for layer in report["layers"]) == report["macs"]["dense"]


def test_the_latency_says_what_ran_the_file(compressed):
    report = json.loads((compressed / "report.json").read_text())
    assert report["latency"]["runtime"] == runtime_text(compressed / "model.onnx")


def test_the_file_passes_the_checker_and_says_what_it_is(compressed):
    onnx.checker.check_model(str(compressed / "model.onnx"), full_check=True)
    proto = onnx.load(compressed / "model.onnx")
    assert {node.op_type for node in proto.graph.node} & set(HYBRID_OPS)
    assert {function.name for function in proto.functions} == {n.op_type for n in proto.graph.node} & set(HYBRID_OPS)
    assert [i.name for i in proto.graph.input] == ["image"]
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["N", 3, 12, 12]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert list(json.loads(metadata[f"{DOMAIN}.classes"])) == ["0", "2", "4"]
    assert len(metadata[f"{DOMAIN}.source_sha256"]) == 64
    inferred = {value.name for value in proto.graph.value_info} | {"logits"}
    assert {name for node in proto.graph.node if node.domain == DOMAIN for name in node.output} <= inferred


def same_answers(answers, compressed, path):
    x = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
    one, other = answers(compressed / "model.onnx", x)[0], answers(path, x)[0]
    assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()


def test_the_file_survives_onnx_ir(compressed, tmp_path, answers):
    onnx_ir.save(onnx_ir.load(compressed / "model.onnx"), tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    assert {f.name for f in again.functions} == {f.name for f in onnx.load(compressed / "model.onnx").functions}
    onnx.checker.check_model(str(tmp_path / "again.onnx"), full_check=True)
    same_answers(answers, compressed, tmp_path / "again.onnx")


def test_the_file_survives_onnxslim(compressed, tmp_path, answers):
    slim = onnxslim.slim(onnx.load(compressed / "model.onnx"))
    onnx.save(slim, tmp_path / "slim.onnx")
    hybrid = {node.op_type for node in slim.graph.node if node.domain == DOMAIN}
    assert hybrid
    assert hybrid <= {function.name for function in slim.functions}
    same_answers(answers, compressed, tmp_path / "slim.onnx")


@pytest.mark.parametrize("emit", ["hybrid", "dense"])
def test_the_recipe_repeats_the_run_byte_for_byte(workplace, compressed, run, run_process, tmp_path, emit):
    """From another folder and in another process; with one epoch of training for the dense form."""
    first = compressed
    if emit == "dense":
        first = tmp_path / "first"
        assert run(*workplace.options, "--emit", "dense", "--epochs", "1", "-o", first).returncode == 0
    again = run_process("compress", "--recipe", first / "recipe.yaml", "-o", tmp_path / "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (first / "model.onnx").read_bytes()


def test_the_recipe_writes_out_every_option(workplace, compressed):
    recipe = yaml.safe_load((compressed / "recipe.yaml").read_text())
    assert recipe["model"] == "../small.onnx"
    assert recipe["sparsity"] == 0.75
    assert recipe["pattern"] == "2:4"
    assert recipe["seed"] == 0


def test_the_command_line_wins_over_the_recipe_and_its_budget_over_the_other(workplace, compressed, run, tmp_path):
    done = run(
        "compress", "--recipe", compressed / "recipe.yaml", "--macs", "0.3", "-o", tmp_path / "o", "--json", "-q"
    )
    report = json.loads(done.stdout)
    assert [budget["name"] for budget in report["budgets"]] == ["macs"]


COMMANDS = {
    "compress": lambda w, out: [*w.options, "-o", w.folder / "json-out"],
    "check": lambda w, out: ["check", w.model],
    "inspect": lambda w, out: ["inspect", out / "model.onnx"],
    "verify": lambda w, out: ["verify", w.model, out / "model.onnx", "--data", w.data, "--preprocess", "unit"],
    "doctor": lambda w, out: ["doctor"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_q_is_silent(workplace, compressed, run, name, capfd):
    done = run(*COMMANDS[name](workplace, compressed), "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stderr == ""
    assert capfd.readouterr() == ("", "")  # nor does native code write past Python


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_are_plain_text_when_nobody_watches(workplace, compressed, run, name):
    done = run(*COMMANDS[name](workplace, compressed))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_v_says_more_than_the_default_and_q_less(workplace, run):
    lengths = [len(run("check", workplace.model, *flag).stderr) for flag in (["-q"], [], ["-v"])]
    assert lengths[0] == 0
    assert lengths[0] <= lengths[1] < lengths[2]


def test_check_says_what_is_prunable_and_what_shares_channels(workplace, run):
    found = json.loads(run("check", workplace.model, "--json").stdout)
    reasons = {item["layer"]["weight"]: item["reason"] for item in found["layers"]}
    assert reasons["conv1.weight"] == reasons["conv2.weight"] == ""
    assert reasons["stem.weight"].startswith("first convolution")
    assert reasons["fc.weight"].startswith("classifier")
    assert ["stem", "conv2"] in [group["producers"] for group in found["groups"]]
    assert 0 < found["prunable_weights"] < 1
    assert found["operators"]["Conv"] == 3


def test_inspect_counts_what_the_report_says(compressed, run):
    found = json.loads(run("inspect", compressed / "model.onnx", "--json").stdout)
    report = json.loads((compressed / "report.json").read_text())
    assert found["formula_bytes"] == report["file"]["bytes_formula"]
    sparse = {layer["name"]: layer for layer in report["layers"] if layer["decision"] == "sparse"}
    assert {layer["name"] for layer in found["layers"]} == set(sparse)
    for layer in found["layers"]:
        assert layer["density"] == pytest.approx(sparse[layer["name"]]["density"])
        assert (
            layer["value_bytes"] + layer["metadata_bytes"] == layer["formula_bytes"] == sparse[layer["name"]]["bytes"]
        )


def test_verify_takes_the_classes_from_the_file_and_finds_a_model_equal_to_itself(workplace, compressed, run):
    found = json.loads(run("verify", workplace.model, compressed / "model.onnx", "--json").stdout)
    assert found["classes"]["indices"] == [0, 2, 4]
    assert found["comparison"] is None
    same = json.loads(
        run("verify", workplace.model, workplace.model, "--data", workplace.data, "--classes", workplace.classes,
            "--preprocess", "unit", "--json").stdout
    )  # fmt: skip
    assert same["worst_relative"] == 0
    assert same["comparison"]["agreement"] == same["comparison"]["n"] == 36


def test_verify_notes_another_original(workplace, compressed, run, tmp_path):
    proto = onnx.load(workplace.model)
    proto.doc_string = "another file"
    onnx.save(proto, tmp_path / "other.onnx")
    done = run("verify", tmp_path / "other.onnx", compressed / "model.onnx", "--json")
    assert any("made from another file" in note for note in json.loads(done.stdout)["notes"])


def test_a_sliced_head_has_the_outputs_of_the_class_list_in_its_order(workplace, run, tmp_path):
    (tmp_path / "cls.txt").write_text("4\n0\n")
    options = ("--classes", tmp_path / "cls.txt", "--head", "slice", "--reconstruct", "none")
    done = run(*workplace.options, *options, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    proto = onnx.load(tmp_path / "out" / "model.onnx")
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    original = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(workplace.model).graph.initializer}
    # The features that the classifier reads may have changed places; its rows may not.
    columns = [sorted(map(tuple, rows.T)) for rows in (stored["fc.weight"], original["fc.weight"][[4, 0]])]
    assert columns[0] == columns[1]
    assert run("verify", workplace.model, tmp_path / "out" / "model.onnx", "--json", "-q").returncode == 0


def test_a_run_into_an_older_output_replaces_it_whole(workplace, compressed, run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.onnx", "model.onnx.data", "notes.txt"):
        (out / name).write_text("old")
    assert run(*workplace.options, "-o", out).returncode == 0
    assert not (out / "model.onnx.data").exists()
    assert (out / "notes.txt").read_text() == "old"
    assert (out / "model.onnx").read_bytes() == (compressed / "model.onnx").read_bytes()


def test_a_missed_budget_is_written_all_the_same_and_exits_with_3(workplace, run, tmp_path):
    done = run(*workplace.options, "--sparsity", "0.99", "-o", tmp_path / "out", "--json", "-q")
    assert done.returncode == 3
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert json.loads(done.stdout)["budgets"][0]["met"] is False
    assert re.search(r"budget was missed \(sparsity: asked 0\.99, reached 0\.9\d+\)", done.stderr)


HELP = """
import sys, time
sys.argv = ["crisp-onnx", "--help"]
from crisp_onnx.cli import main
try:
    main()
finally:
    slow = {"torch", "onnx", "onnxruntime", "numpy", "pydantic", "rich"} & set(sys.modules)
    print(f"took {time.process_time():.3f} s, imported {sorted(slow)}", file=sys.stderr)
"""


def test_help_imports_nothing_slow_and_is_quick():
    runs = [subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True) for _ in range(3)]
    assert "Compress trained ONNX classifiers" in runs[0].stdout
    times = [float(re.search(r"took ([\d.]+) s, imported \[\]", done.stderr)[1]) for done in runs]
    assert min(times) < 0.3


@pytest.mark.parametrize("command", ["compress", "check", "inspect", "verify", "doctor"])
def test_every_command_has_help(run, command):
    done = run(command, "-h")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_without_matplotlib_the_page_is_left_out_with_a_note(workplace, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run(*workplace.options, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "report.html is left out: its charts need matplotlib" in done.stdout
    assert not (tmp_path / "out" / "report.html").exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("pip install 'crisp-onnx[report]'" in note for note in report["notes"])


def test_the_report_says_what_the_order_of_the_channels_is_worth(workplace, run, compressed, tmp_path):
    report = json.loads((compressed / "report.json").read_text())["reordering"]
    assert report["done"]
    assert report["kept_after"] > report["kept_before"] > 0
    assert report["worst_relative"] <= 1e-5
    assert {tuple(group["written_by"]) for group in report["groups"]} <= {("stem", "conv2"), ("conv1",)}
    assert "Channels are reordered in" in (workplace.folder / "summary.txt").read_text()
    done = run(*workplace.options, "--no-reorder", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["reordering"] is None
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["reorder"] is False


def test_the_report_says_what_least_squares_gained_and_a_run_without_says_nothing(workplace, run, compressed, tmp_path):
    report = json.loads((compressed / "report.json").read_text())
    sparse = [layer for layer in report["layers"] if layer["decision"] == "sparse"]
    assert sparse and all(0 <= layer["fit"]["error_after"] <= layer["fit"]["error_before"] for layer in sparse)
    assert report["timings_s"]["reconstruct"] > 0
    assert yaml.safe_load((compressed / "recipe.yaml").read_text())["reconstruct"] == "least-squares"
    without = run(*workplace.options, "--reconstruct", "none", "-o", tmp_path / "out")
    assert without.returncode == 0, without.stderr
    assert "Least squares" not in without.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(layer["fit"] is None for layer in report["layers"])


@pytest.mark.parametrize("option", ["--reconstruct", "--recovery"])
def test_an_unknown_way_is_refused(workplace, run, tmp_path, option):
    done = run(*workplace.options, option, "magic", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
