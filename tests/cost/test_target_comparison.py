"""One model on several targets: a row each with what `estimate` says of it alone, or why it cannot take the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from onnx import numpy_helper, parser, save

from crisp_onnx import compare_targets, estimate
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target, target_names
from crisp_onnx.lowering.describe import summarize_target
from crisp_onnx.lowering.target import targets_folder
from crisp_onnx.lowering.target_groups import GROUPS, load_targets

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,16,8,8] x) => (float[1,16,8,8] y)
<float[16,16,3,3] w> { c = Conv <pads = [1,1,1,1]> (x, w)  d = Erf (c)  y = Relu (d) }
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    proto = parser.parse_model(NET)
    del proto.graph.value_info[:]
    weight = np.ones((16, 16, 3, 3), np.float32)
    weight[:, ::2] = 0  # 1:2, and so 2:4
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_every_row_says_what_its_target_says_alone(net: Path) -> None:
    found = compare_targets(net, ["all"])
    assert {row.target for row in found.rows} == set(target_names())
    for row in found.rows:
        one = estimate(net, row.target).estimate
        assert (row.dense_ms, row.latency_ms) == (one.dense.latency_ms, one.as_is.latency_ms)
        assert row.speedup == one.speedup
        assert (row.limited_by, row.fits, row.assumed) == (one.limited_by, one.fit.verdict, one.assumed)
        assert (row.retyped, row.elsewhere, row.refused) == (one.retyped, one.elsewhere, "")
        assert row.energy_mj == (None if one.as_is.nominal_uj is None else one.as_is.nominal_uj / 1e3)
        assert row.hand_over == summarize_target(load_target(row.target)).hand_over
    gains = {row.target for row in found.rows if row.speedup is not None and row.speedup > 1.05}
    assert "stc_edge_int8" in gains
    assert "coral_edge_tpu" not in gains


def test_a_target_that_cannot_take_the_model_says_why_in_its_row(net: Path) -> None:
    found = compare_targets(net, ["portable", "stc_edge_int8"], dtype="fp32")
    assert [bool(row.refused) for row in found.rows] == [False, True]
    assert "does not compute in fp32" in found.rows[1].refused
    assert found.rows[1].latency_ms is None
    text = run("estimate", net, "--target", "portable", "--target", "stc_edge_int8", "--dtype", "fp32").stdout
    assert "stc_edge_int8 does not compute in fp32. Use int8." in text
    with pytest.raises(CrispError, match="does not compute in fp16"):
        compare_targets(net, ["portable", "stc_edge_int8"], dtype="fp16")
    run("lower", net, "--target", "portable", "-o", net.with_name("low.json"), "-q")
    found = compare_targets(net.with_name("low.json"), ["portable", "x86_avx2"])
    assert ["lowered for portable" in row.refused for row in found.rows] == [False, True]


def test_groups_stand_for_the_targets_that_the_list_shows_so() -> None:
    every = {name: summarize_target(load_target(name)) for name in target_names()}
    for word in GROUPS:
        wanted = {name for name, said in every.items() if word in ("all", said.zeros, said.kind)}
        assert {target.name for target in load_targets([word])} == wanted
        assert wanted
    file = targets_folder() / "portable.yaml"
    assert [target.name for target in load_targets(["portable", "store", str(file)])].count("portable") == 1
    with pytest.raises(CrispError, match="Unknown target 'gpus'"):
        load_targets(["gpu", "gpus"])


def test_one_target_prints_what_it_always_did_and_several_a_table(net: Path) -> None:
    alone = run("estimate", net, "--target", "portable")
    assert run("estimate", net, "--target", "portable", "--target", "portable").stdout == alone.stdout
    assert "Cycles a layer" in alone.stdout
    text = run("estimate", net, "--target", "arm_ethos_u65", "--target", "portable", "--against", net).stdout
    assert "net.onnx, batch 1, on 2 targets" in text
    assert "net.onnx ms" in text
    for words in ("limited by", "assumed", "hand it", "Erf runs on portable", "arm_ethos_u65: The model is in fp32"):
        assert words in text
    assert "Cycles a layer" not in text
    refused = run("estimate", net, "--target", "all", "--plot", net.with_suffix(".svg"))
    assert refused.exit_code == 2
    assert "--plot draws one target" in refused.stderr


def test_the_document_and_the_page_hold_every_row(net: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("estimate", net, "--target", "cpu", "--target", "stc_edge_int8", "--html", page, "--json", "-q")
    rows = json.loads(run(*words).stdout)["rows"]
    text = page.read_text()
    assert text.count("<tr>") == 1 + len(rows) == 7
    for row in rows:
        assert f">{row['target']}<" in text
        assert f">{row['latency_ms']:.4g}<" in text
    assert "http" not in text.replace("http-equiv", "")
    with pytest.raises(CrispError, match="must end in"):
        run(*words[:-3], tmp_path / "page.txt")


def test_a_page_takes_no_name_of_a_target_file(net: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text((targets_folder() / "portable.yaml").read_text())
    with pytest.raises(CrispError, match="Choose another name"):
        compare_targets(net, [mine, "portable"], page=mine)
