"""Without a target every layer is timed on this host, and one that is not faster keeps its zeros in place."""

from __future__ import annotations

import json

import onnx
import pytest

from crisp_onnx.format import DOMAIN
from crisp_onnx.runtime import never_slower
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.library import Library, load_library
from crisp_onnx.runtime.profit import judge

FAST, SLOW = LayerTimes(2.0, 0.5, 0.0), LayerTimes(2.0, 3.0, 0.0)


def here(workplace, out):
    """The options of a run for this host."""
    at = workplace.options.index("--target")
    return [*workplace.options[:at], *workplace.options[at + 2 :], "-o", out]


@pytest.fixture
def timed(monkeypatch):
    """Layers measure as given, in the order of the graph; a library is not needed."""

    def patch(*times):
        left = iter(times)
        monkeypatch.setattr(never_slower, "profitable", lambda case: judge(next(left)))
        monkeypatch.setattr(never_slower, "load_library", lambda: Library(None, None))

    return patch


def hybrid_nodes(out):
    return [node.name for node in onnx.load(out / "model.onnx").graph.node if node.domain == DOMAIN]


def test_a_layer_that_is_not_faster_stays_an_ordinary_operator(workplace, run, timed, tmp_path):
    timed(FAST, SLOW)
    done = run(*here(workplace, tmp_path / "o"), "--json", "-q")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert hybrid_nodes(tmp_path / "o") == ["conv1"]
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["conv1"]["decision"] == "sparse"
    assert (layers["conv1"]["dense_ms"], layers["conv1"]["sparse_ms"]) == (2.0, 0.5)
    slow = layers["conv2"]
    assert slow["decision"] == "dense"
    assert "stays dense" in slow["reason"]
    assert (slow["dense_ms"], slow["sparse_ms"], slow["bytes"]) == (2.0, 3.0, slow["bytes_dense"])
    assert 0 < slow["density"] < 0.5
    assert layers["stem"]["dense_ms"] is None
    assert [entry["node"] for entry in report["declined"] if "faster" in entry["reason"]] == ["conv2"]
    assert any("1 of 2 planned layers" in note for note in report["notes"])
    assert report["sparsity"]["weights"] == pytest.approx(0.75, abs=0.005)
    assert report["equivalence"]["worst_relative"] <= 1e-5
    assert report["equivalence"]["native_worst_relative"] <= 1e-4
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o" / "model.onnx").graph.initializer}
    assert (stored["conv2.weight"] != 0).mean() == pytest.approx(slow["density"], abs=1e-6)


def test_the_bytes_of_the_formula_count_what_stays_dense(workplace, run, timed, tmp_path):
    sizes = {}
    for name, times in (("one", (FAST, SLOW)), ("none", (SLOW, SLOW)), ("both", (FAST, FAST))):
        timed(*times)
        assert run(*here(workplace, tmp_path / name), "-q").returncode == 0
        file = json.loads((tmp_path / name / "report.json").read_text())["file"]
        sizes[name] = (file["bytes"], file["bytes"] - file["bytes_formula"])
    assert sizes["both"][0] < sizes["one"][0] < sizes["none"][0]
    # What the formula leaves out is the graph itself: the same few nodes, plus the bodies of hybrid operators.
    assert all(0 < rest < 16_000 for _, rest in sizes.values())
    assert hybrid_nodes(tmp_path / "none") == []


def test_without_the_kernels_nothing_is_timed_and_all_is_packed(workplace, run, monkeypatch, tmp_path):
    monkeypatch.setattr(never_slower, "load_library", lambda: Library(None, None, "It was built without a compiler."))
    assert run(*here(workplace, tmp_path / "o"), "-q").returncode == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert hybrid_nodes(tmp_path / "o") == ["conv1", "conv2"]
    assert all(layer["dense_ms"] is None for layer in report["layers"])
    assert any("No layer was timed" in note and "without a compiler" in note for note in report["notes"])


def test_portable_and_dense_results_are_not_timed(workplace, run, timed, tmp_path):
    timed()
    assert run(*workplace.options, "-q", "-o", tmp_path / "portable").returncode == 0
    assert hybrid_nodes(tmp_path / "portable") == ["conv1", "conv2"]
    assert run(*here(workplace, tmp_path / "dense"), "-q", "--emit", "dense").returncode == 0


def test_a_rerun_of_the_recipe_gives_the_same_file_whatever_is_faster_by_then(workplace, run, timed, tmp_path):
    timed(SLOW, FAST)
    assert run(*here(workplace, tmp_path / "one"), "-q").returncode == 0
    timed()  # a layer that is timed now would be one too many
    done = run("compress", "--recipe", tmp_path / "one" / "recipe.yaml", "-o", tmp_path / "two", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert hybrid_nodes(tmp_path / "two") == ["conv2"]
    assert (tmp_path / "two" / "model.onnx").read_bytes() == (tmp_path / "one" / "model.onnx").read_bytes()
    report = json.loads(done.stdout)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert (layers["conv1"]["decision"], layers["conv2"]["decision"]) == ("dense", "sparse")
    assert "the recipe does not name it" in layers["conv1"]["reason"]
    assert any("1 of 2 planned layers are packed, as the recipe says" in note for note in report["notes"])
    again = run(*here(workplace, tmp_path / "three"), "--recipe", tmp_path / "two" / "recipe.yaml", "-q")
    assert again.returncode == 0, "the same options on the command line change nothing"
    assert hybrid_nodes(tmp_path / "three") == ["conv2"]


def test_another_option_beside_the_recipe_times_the_layers_again(workplace, run, timed, tmp_path):
    timed(SLOW, FAST)
    assert run(*here(workplace, tmp_path / "one"), "-q").returncode == 0
    timed(FAST, SLOW)
    words = ("--recipe", tmp_path / "one" / "recipe.yaml", "--saliency", "magnitude", "-o", tmp_path / "two", "-q")
    assert run("compress", *words).returncode == 0
    assert hybrid_nodes(tmp_path / "two") == ["conv1"]


def test_a_recipe_that_packs_an_unknown_layer_is_refused_at_once(workplace, run, timed, tmp_path):
    timed(SLOW, FAST)
    assert run(*here(workplace, tmp_path / "one"), "-q").returncode == 0
    recipe = tmp_path / "one" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("- conv2", "- convolution2"))
    done = run("compress", "--recipe", recipe, "-o", tmp_path / "two", "-q")
    assert done.returncode == 2
    assert "'convolution2'" in done.stderr
    assert "Did you mean 'conv2'" in done.stderr


@pytest.mark.skipif(load_library().path is None, reason="no native kernels here")
def test_a_real_measurement_is_in_the_report_and_its_page(workplace, run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(*here(workplace, tmp_path / "o"), "-q").returncode == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    timed = [layer for layer in report["layers"] if layer["dense_ms"] is not None]
    assert [layer["name"] for layer in timed] == ["conv1", "conv2"]
    assert set(hybrid_nodes(tmp_path / "o")) == {layer["name"] for layer in timed if layer["decision"] == "sparse"}
    page = tmp_path / "o" / "report.html"
    assert not page.exists() or f"{timed[0]['sparse_ms']:.3f}" in page.read_text()
