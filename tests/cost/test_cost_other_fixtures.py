"""Systolic arrays, the Ethos-U and the Edge TPU against their simulators, compilers and measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published.systolic import SystolicArray, sparse_filter, systolic_cycles

from crisp_onnx.cost.host_link import link_latency_ms
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import load_target
from crisp_onnx.lowering.ethos_u import ethos_u_cycles
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import Layer, lower_layer
from crisp_onnx.lowering.matrix import Matrix, conv_matrix
from crisp_onnx.lowering.storage import unstructured_bytes

GROUPS = {g["group"]: g for g in json.loads((Path(__file__).parent / "data/cost_fixtures.json").read_text())["groups"]}
SCALE_SIM = GROUPS["scalesim_v3"]
VELA = GROUPS["vela_ethos_u65"]
CORAL = GROUPS["coral_measured"]
DENSITY = {"dense": 1.0, "2:4": 0.5, "hybrid_2:4x25%_16x16": 0.125}


@pytest.mark.parametrize("row", SCALE_SIM["rows"], ids=lambda row: row["id"])
def test_scale_sim_is_met_exactly(row: dict[str, Any]) -> None:
    array = SystolicArray(*row["array"], row["dataflow"])
    expect = row["expect"]
    cycles = systolic_cycles(array, row["M"], row["K"], row["N"], nm=row["nm"], stall_cycles=expect["stall_cycles"])
    assert cycles == expect["total_cycles"]
    if row["nm"]:
        stored = sparse_filter(row["K"], row["N"], row["nm"])
        assert (stored.words, stored.metadata_words) == (expect["filter_words_new"], expect["metadata_words"])


def test_sparse_rows_need_a_dataflow_that_keeps_weights() -> None:
    with pytest.raises(CrispError, match="Use 'ws'"):
        systolic_cycles(SystolicArray(16, 16, "os"), 64, 64, 64, nm=(2, 4))


def vela_matrix(row: dict[str, Any]) -> Matrix:
    k, pad = row["k"], row["k"] // 2
    groups = row["Cin"] if row["depthwise"] else 1
    return conv_matrix(
        (row["Cout"], row["Cin"] // groups, k, k),
        (1, row["Cin"], row["H"], row["H"]),
        stride=(row["stride"], row["stride"]),
        pads=(pad, pad, pad, pad),
    )


def vela_tolerance(row: dict[str, Any]) -> float:
    tolerance = VELA["tolerance"]
    if row["depthwise"]:
        return float(tolerance["npu_pct_depthwise"])
    if row["Cin"] == 3:
        return float(tolerance["npu_pct_first_conv"])
    if row["k"] == 1 and row["H"] == 56:
        return float(tolerance["npu_pct_1x1_56x56"])
    return float(tolerance["npu_pct_conv"])


@pytest.mark.parametrize("row", VELA["rows"], ids=lambda row: row["id"])
def test_vela_is_met_within_its_tolerances(row: dict[str, Any]) -> None:
    matrix, expect = vela_matrix(row), row["expect"]
    assert matrix.macs == expect["macs"]
    cycles = ethos_u_cycles(matrix, 2 if row["accelerator"].endswith("512") else 1)
    assert abs(100 * (cycles / expect["npu_cycles"] - 1)) <= vela_tolerance(row)
    if expect["weight_bytes"] > VELA["tolerance"]["encoded_weight_min_bytes"]:
        encoded = unstructured_bytes(matrix.weights, DENSITY[row["pattern"]], "entropy", 1)
        assert abs(100 * (encoded / expect["encoded_weight_bytes"] - 1)) <= VELA["tolerance"]["encoded_weight_pct"]
    bandwidth = 3.75
    dram = expect["dram_bytes_model"] / bandwidth
    assert abs(100 * (dram / expect["dram_cycles"] - 1)) <= VELA["tolerance"]["dram_from_bytes_pct"]


def test_sparse_weights_do_not_speed_up_the_ethos_but_shrink_in_memory() -> None:
    target = load_target("arm_ethos_u65")
    matrix = conv_matrix((512, 512, 3, 3), (1, 512, 7, 7), pads=(1, 1, 1, 1))
    patterns = LayerSparsity(), LayerSparsity(2, 4), LayerSparsity(2, 4, 16, 16, 72)
    tilings = [lower_layer(Layer("c", "Conv", "conv3x3", matrix, p), target, "int8").tiling for p in patterns]
    assert [t.array_cycles for t in tilings if t] == [ethos_u_cycles(matrix, 2)] * 3
    stored = [t.stored_weight_bytes for t in tilings if t]
    assert stored[0] > stored[1] > stored[2]
    assert stored[2] == unstructured_bytes(matrix.weights, 0.125, "entropy", 1)


@pytest.mark.parametrize("row", CORAL["rows"], ids=lambda row: row["id"])
def test_the_edge_tpu_is_described_where_the_link_decides(row: dict[str, Any]) -> None:
    found = link_latency_ms(round(row["params_M_from_memory"] * 1e6), load_target("coral_edge_tpu"))
    assert found == pytest.approx(row["formula"]["usb3_ms"], abs=0.06)
    if not any(name in row["id"] for name in CORAL["tolerance"]["exempt"]):
        assert abs(100 * (found / row["expect"]["usb3_ms"] - 1)) <= CORAL["tolerance"]["usb3_pct"]
