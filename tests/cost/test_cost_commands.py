"""The commands about hardware, run as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import run
from onnx import load, numpy_helper, parser, save

from crisp_onnx.errors import CrispError

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,16,8,8] x) => (float[1,16,8,8] y)
<float[16,16,3,3] w> { c = Conv <pads = [1,1,1,1]> (x, w)  y = Relu (c) }
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    proto = parser.parse_model(NET)
    del proto.graph.value_info[:]
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "w"))
    save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_targets_lists_every_target_and_shows_one_in_words() -> None:
    assert "nvidia_h200" in run("targets").stdout
    listed = run("targets", "-q", "--json").stdout
    assert len(json.loads(listed)["targets"]) >= 12
    assert run("targets", "list", "-q", "--json").stdout == listed
    text = run("targets", "show", "stc_edge_int8").stdout
    assert "under 32 MAC per byte read from DRAM" in text
    assert "Weights 2:4: skipped" in text
    assert "assumed: overhead.per_layer = 1000 cycles" in text


def test_lower_writes_the_file_that_estimate_reads(net: Path, tmp_path: Path) -> None:
    run("lower", net, "--target", "stc_edge_int8", "-q")
    file = tmp_path / "net.stc_edge_int8.json"
    direct = json.loads(run("estimate", net, "--target", "stc_edge_int8", "--json", "-q").stdout)
    through = json.loads(run("estimate", file, "--target", "stc_edge_int8", "--json", "-q").stdout)
    assert direct == through
    assert direct["estimate"]["as_is"]["latency_ms"] > 0


def test_estimate_prints_the_dense_baseline_and_what_it_leaned_on(net: Path) -> None:
    text = run("estimate", net, "--target", "stc_edge_int8", "--against", net).stdout
    for words in ("dense over it", "N:M alone", "blocks alone", "Leaned on assumed", "1 times as long", "no overlap"):
        assert words in text


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_estimate_draws_its_plots(net: Path, tmp_path: Path, suffix: str) -> None:
    files = tmp_path / f"roofline{suffix}", tmp_path / f"bars{suffix}"
    run("estimate", net, "--target", "nvidia_a100", "--plot", files[0], "--plot", files[1], "-q")
    assert all(file.stat().st_size > 1000 for file in files)


@pytest.mark.parametrize("name", [r"$\foo$", "$", "_{", "\x1b[31mred", "a\nb", "\ufffe"], ids=ascii)
def test_plots_take_any_name(net: Path, tmp_path: Path, name: str) -> None:
    proto = load(net)
    for node in proto.graph.node:
        node.name = name + node.output[0]
    save(proto, net)
    files = tmp_path / "roofline.svg", tmp_path / "bars.svg"
    run("estimate", net, "--target", "nvidia_a100", "--plot", files[0], "--plot", files[1], "-q")
    assert all(ElementTree.parse(file) for file in files)


def test_the_bars_show_energy_by_component_where_the_target_has_a_table_of_it(net: Path, tmp_path: Path) -> None:
    widths = []
    for target in ("stc_edge_int8", "nvidia_a100"):  # the second knows its design power alone
        run("estimate", net, "--target", target, "--plot", tmp_path / "a.svg", "--plot", tmp_path / "b.svg", "-q")
        widths.append(ElementTree.parse(tmp_path / "b.svg").getroot().attrib["width"])
    assert widths == ["1008pt", "648pt"]


def test_other_plot_formats_and_unknown_targets_are_refused(net: Path, tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"must end in \.svg or \.png"):
        run("estimate", net, "--target", "portable", "--plot", tmp_path / "a.pdf", "-q")
    with pytest.raises(CrispError, match="Unknown target"):
        run("lower", net, "--target", "abacus", "-q")


@pytest.mark.parametrize(("text", "sides"), [("24", "24,24"), ("16x48", "16,48")])
def test_open_sides_are_estimated_at_the_size_given(tmp_path: Path, text: str, sides: str) -> None:
    found = []
    for axes in ("H,W", sides):
        proto = parser.parse_model(
            NET.replace("[1,16,8,8] x", f"[1,16,{axes}] x").replace("16,8,8] y", f"16,{axes}] y")
        )
        del proto.graph.value_info[:]
        proto.graph.initializer.append(numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "w"))
        save(proto, tmp_path / "net.onnx")
        words = ("estimate", tmp_path / "net.onnx", "--target", "stc_edge_int8", "--size", text, "--json", "-q")
        found.append(json.loads(run(*words).stdout)["estimate"]["as_is"])
    assert found[0] == found[1]


@pytest.mark.parametrize("command", ["estimate", "lower"])
def test_a_size_that_the_model_does_not_take_is_refused_and_its_own_is_not(
    net: Path, tmp_path: Path, command: str
) -> None:
    with pytest.raises(CrispError, match=r"--size 16x16 does not fit input 'x'.* Leave it out"):
        run(command, net, "--target", "stc_edge_int8", "--size", "16", "-q")
    assert run(command, net, "--target", "stc_edge_int8", "--size", "8", "-q").exit_code == 0
    with pytest.raises(CrispError, match="was lowered with its sizes"):
        run("lower", net, "--target", "stc_edge_int8", "-o", tmp_path / "net.json", "-q")
        run("estimate", tmp_path / "net.json", "--target", "stc_edge_int8", "--size", "8", "-q")


@pytest.mark.parametrize("text", ["0", "x", "1x2x3", "-4", "4.5", "9" * 5000])
def test_sizes_that_cannot_be_are_refused(net: Path, text: str) -> None:
    result = run("estimate", net, "--target", "stc_edge_int8", "--size", text)
    assert result.exit_code == 2
    assert "no size in pixels" in result.stderr


def test_zeros_among_the_inputs_are_measured_on_images_and_stored_with_the_lowered_file(tmp_path: Path) -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,8,8] x) => (float[1,16,8,8] y)'
        " <float[16,3,3,3] w, float[16,16,3,3] v>"
        "{ a = Conv <pads = [1,1,1,1]> (x, w) b = Relu (a) y = Conv <pads = [1,1,1,1]> (b, v) }"
    )
    del proto.graph.value_info[:]
    rng = np.random.default_rng(0)
    for name, shape in (("w", (16, 3, 3, 3)), ("v", (16, 16, 3, 3))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), name))
    save(proto, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (6, 8, 8, 3), np.uint8), y=np.zeros(6, np.int64))
    words = ("--target", "dstc_edge_int8", "--data", tmp_path / "x.npz", "--preprocess", "unit", "-q")
    run("lower", tmp_path / "net.onnx", *words, "-o", tmp_path / "net.json")
    first, second = json.loads((tmp_path / "net.json").read_text())["operators"]
    assert first["activation_density"] > 0.9
    assert 0.2 < second["activation_density"] < 0.8
    measured, blind = (
        json.loads(run("estimate", tmp_path / "net.onnx", *options, "--json").stdout)["estimate"]["as_is"]
        for options in (words, words[:2])
    )
    assert measured["computed_macs"] < blind["computed_macs"]


def test_the_page_shows_both_models_and_loads_nothing(net: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("estimate", net, "--target", "nvidia_a100", "--against", net, "--html", page, "-q")
    text = page.read_text()
    assert text.count("<svg") == 8
    assert "mathdefault" not in text  # ticks in plain digits
    assert text.count("net.onnx on nvidia_a100: dense") == 2  # what is said of each
    assert "2:4 roof" in text
    assert "memory roof" in text
    assert "<script" not in text
    assert 'src="http' not in text


@pytest.mark.parametrize("command", ["estimate", "lower"])
def test_a_type_that_the_target_does_not_compute_in_is_refused(net: Path, command: str) -> None:
    with pytest.raises(CrispError, match=r"stc_edge_int8 does not compute in fp16\. Use int8\."):
        run(command, net, "--target", "stc_edge_int8", "--dtype", "fp16")


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_file_that_is_no_kernel_library_is_refused_before_anything_is_measured(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "kernels.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CrispError, match="No such library" if content is None else "do not load here"):
        run("targets", "calibrate", "-o", tmp_path / "mine.yaml", "--kernels", path)
    assert not (tmp_path / "mine.yaml").exists()


def test_estimate_reads_what_lower_wrote_whatever_the_case_of_its_name(net: Path, tmp_path: Path) -> None:
    run("lower", net, "--target", "stc_edge_int8", "-o", tmp_path / "low.JSON", "-q")
    done = run("estimate", tmp_path / "low.JSON", "--target", "stc_edge_int8", "--json", "-q")
    assert json.loads(done.stdout)["estimate"]["as_is"]["latency_ms"] > 0
