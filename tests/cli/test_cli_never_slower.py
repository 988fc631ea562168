"""Without a target every layer is timed on this host before training, and one that is not faster stays dense."""

from __future__ import annotations

import json
import re
from itertools import cycle

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml

from crisp_onnx.api import gains
from crisp_onnx.format import DOMAIN
from crisp_onnx.runtime import never_slower
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.library import Library, load_library
from crisp_onnx.runtime.profit import judge

FAST, SLOW, TIGHT = LayerTimes(2.0, 0.5, 0.0), LayerTimes(2.0, 3.0, 0.0), LayerTimes(2.0, 1.7, 0.0)


def here(workplace, out, *more):
    """The options of a run for this host."""
    at = workplace.options.index("--target")
    return [*workplace.options[:at], *workplace.options[at + 2 :], *more, "-o", out]


@pytest.fixture
def timed(monkeypatch):
    """Layers measure as given, in the order of the graph, and the whole model is so many times as fast."""

    def patch(*times, whole=2.0):
        left, wholes = cycle(times), iter(whole if isinstance(whole, list) else cycle([whole]))
        monkeypatch.setattr(never_slower, "profitable", lambda case: judge(next(left)))
        monkeypatch.setattr(never_slower, "load_library", lambda: Library(None, None))
        monkeypatch.setattr(never_slower, "require_isa", lambda: "avx2")
        monkeypatch.setattr(gains, "_times_faster", lambda *_: next(wholes))

    return patch


def hybrid_nodes(out):
    return [node.name for node in onnx.load(out / "model.onnx").graph.node if node.domain == DOMAIN]


def stored(path):
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_a_layer_that_is_not_faster_is_not_pruned(workplace, run, timed, tmp_path):
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
    assert slow["density"] == 1.0
    assert layers["stem"]["dense_ms"] is None
    assert any("1 of 2 layers that could be sparse" in note for note in report["notes"])
    assert report["sparsity"]["weights"] == pytest.approx(0.75, abs=0.005)
    assert report["equivalence"]["worst_relative"] <= 1e-5
    assert report["equivalence"]["native_worst_relative"] <= 1e-4
    executed = sum(layer["macs"] * (layer["density"] if layer["name"] == "conv1" else 1) for layer in layers.values())
    assert report["macs"]["kept"] == report["macs"]["nonzero"] == round(executed)
    assert (stored(tmp_path / "o" / "model.onnx")["conv2.weight"] != 0).all()


def test_the_bytes_of_the_formula_count_what_stays_dense(workplace, run, timed, tmp_path):
    sizes = {}
    for name, times, code in (("one", (FAST, SLOW), 0), ("none", (SLOW, SLOW), 3), ("both", (FAST, FAST), 0)):
        timed(*times)
        assert run(*here(workplace, tmp_path / name), "-q").returncode == code
        file = json.loads((tmp_path / name / "report.json").read_text())["file"]
        sizes[name] = (file["bytes"], file["bytes"] - file["bytes_formula"])
    assert sizes["both"][0] < sizes["one"][0] < sizes["none"][0]
    # What the formula leaves out is the graph itself: the same few nodes, plus the bodies of hybrid operators.
    assert all(0 < rest < 16_000 for _, rest in sizes.values())
    assert hybrid_nodes(tmp_path / "none") == []


@pytest.mark.parametrize("with_images", [True, False])
def test_where_no_layer_gains_nothing_is_trained_and_the_budget_is_missed(workplace, run, timed, tmp_path, with_images):
    timed(SLOW, SLOW)
    words = here(workplace, tmp_path / "o", "--epochs", "50")
    if not with_images:
        at = words.index("--data")
        del words[at : at + 2]
    done = run(*words, "-q")
    assert done.returncode == 3
    assert "sparsity: asked 0.75, reached 0" in done.stderr
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert any("nothing was trained" in note and "--target portable" in note for note in report["notes"])
    assert report["macs"]["kept_ratio"] == 1
    feed = {"image": np.random.default_rng(0).standard_normal((2, 3, 12, 12), dtype=np.float32)}
    before, after = (
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for path in (workplace.model, tmp_path / "o" / "model.onnx")
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_layers_of_little_lead_are_left_dense_until_the_whole_model_is_not_slower(workplace, run, timed, tmp_path):
    timed(FAST, TIGHT, whole=[0.9, 1.1])
    assert run(*here(workplace, tmp_path / "o"), "-q").returncode == 0
    assert hybrid_nodes(tmp_path / "o") == ["conv1"]
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    (reason,) = [layer["reason"] for layer in report["layers"] if layer["name"] == "conv2"]
    assert "The whole model would be slower with it" in reason
    timed(FAST, TIGHT, whole=0.9)
    assert run(*here(workplace, tmp_path / "none"), "-q").returncode == 3
    assert hybrid_nodes(tmp_path / "none") == []


def test_a_layer_keeps_no_more_blocks_than_it_gains_with(workplace, run, timed, tmp_path):
    timed(FAST, TIGHT)
    assert run(*here(workplace, tmp_path / "o"), "-q").returncode == 0
    most = yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())["most_blocks"]
    assert set(most) == {"conv2"}
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    (kept,) = [layer["kept_blocks"] for layer in report["layers"] if layer["name"] == "conv2"]
    assert kept <= most["conv2"]


def test_a_budget_of_macs_that_the_faster_layers_cannot_meet_is_refused_before_training(
    workplace, run, timed, tmp_path
):
    timed(FAST, SLOW)
    words = here(workplace, tmp_path / "o", "--macs", "0.3", "-q")
    at = words.index("--sparsity")
    del words[at : at + 2]
    done = run(*words)
    assert done.returncode == 2
    assert "--macs 0.3 cannot be met" in done.stderr
    assert "1 of them would not be faster sparse on this machine; --target portable prunes those too." in done.stderr
    assert not (tmp_path / "o").exists()


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
    timed(None)  # a layer that is timed now would have no times
    done = run("compress", "--recipe", tmp_path / "one" / "recipe.yaml", "-o", tmp_path / "two", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert hybrid_nodes(tmp_path / "two") == ["conv2"]
    assert (tmp_path / "two" / "model.onnx").read_bytes() == (tmp_path / "one" / "model.onnx").read_bytes()
    report = json.loads(done.stdout)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert (layers["conv1"]["decision"], layers["conv2"]["decision"]) == ("dense", "sparse")
    assert "the recipe does not name it" in layers["conv1"]["reason"]
    assert any("1 of 2 layers may be sparse, as the recipe says" in note for note in report["notes"])
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


def test_zeros_in_place_are_not_said_to_save_macs(workplace, run, tmp_path):
    done = run(*workplace.options, "--emit", "dense", "-o", tmp_path / "o")
    assert done.returncode == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["macs"]["kept_ratio"] == 1
    assert report["macs"]["nonzero_ratio"] < 0.6
    assert "100 % executed" in done.stdout
    assert "MACs, zeros left out" in done.stdout
    assert any("Zeros stand in place" in note for note in report["notes"])


def test_a_budget_of_macs_with_zeros_in_place_counts_what_other_engines_execute(workplace, run, tmp_path):
    words = [*workplace.options, "--emit", "dense", "--macs", "0.5", "-q", "-o", tmp_path / "o"]
    at = words.index("--sparsity")
    del words[at : at + 2]
    assert run(*words).returncode == 0
    (budget,) = json.loads((tmp_path / "o" / "report.json").read_text())["budgets"]
    assert (budget["name"], budget["met"]) == ("macs", True)
    assert budget["reached"] == pytest.approx(0.5, abs=0.005)


@pytest.mark.skipif(load_library().path is None, reason="no native kernels here")
def test_a_real_measurement_is_in_the_report_and_its_page(workplace, run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gains, "WHOLE_BUDGET_S", 0.05)
    done = run(*here(workplace, tmp_path / "o"))
    assert done.returncode in (0, 3)
    assert set(re.findall(r"(\S+) runs with the native kernels", done.stderr)) <= {f"{tmp_path / 'o' / 'model.onnx'}"}
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    timed = [layer for layer in report["layers"] if layer["dense_ms"] is not None]
    assert [layer["name"] for layer in timed] == ["conv1", "conv2"]
    assert set(hybrid_nodes(tmp_path / "o")) == {layer["name"] for layer in timed if layer["decision"] == "sparse"}
    page = tmp_path / "o" / "report.html"
    assert not page.exists() or f"{timed[0]['sparse_ms']:.3f}" in page.read_text()
