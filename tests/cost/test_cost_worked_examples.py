"""The tile-level model on stc_edge_int8: worked layers and whole ResNet-50, to the digit."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cost_rows import machine
from layer_lists import resnet50

from crisp_onnx.cost import cost_layer, estimate
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, blocked
from crisp_onnx.lowering.layers import Layer, lower_layer, lower_layers
from crisp_onnx.lowering.lowered import Source
from crisp_onnx.lowering.matrix import Matrix, conv_matrix

WORKED = next(
    g
    for g in json.loads((Path(__file__).parent / "data/cost_fixtures.json").read_text())["groups"]
    if g["group"] == "worked_stc_edge"
)
LAYERS = [row for row in WORKED["rows"] if "layer" in row]
MODELS = [row for row in WORKED["rows"] if "layer" not in row]
PRECISION = 1e-4


def matrix_of(layer: dict[str, Any]) -> Matrix:
    k, pad, groups = layer["k"], layer["k"] // 2, layer.get("g", 1)
    return conv_matrix(
        (layer["cout"], layer["cin"] // groups, k, k),
        (1, layer["cin"], layer["h"], layer["h"]),
        stride=(layer["s"], layer["s"]),
        pads=(pad, pad, pad, pad),
        residuals=layer.get("res", 0),
    )


def pattern_of(matrix: Matrix, mode: dict[str, Any]) -> LayerSparsity:
    pattern = LayerSparsity(*mode.get("nm", (0, 0)))
    if "keep" in mode:
        pattern = blocked(pattern, Fraction(str(mode["keep"])), matrix.K, *mode["block"])
    return pattern


@pytest.mark.parametrize("row", LAYERS, ids=lambda row: row["id"])
def test_a_worked_layer_is_met_to_the_digit(row: dict[str, Any]) -> None:
    target = machine("worked_stc_edge")
    matrix = matrix_of(row["layer"])
    pattern = pattern_of(matrix, WORKED["modes"][row["mode"]])
    op = lower_layer(Layer("layer", "Conv", "conv", matrix, pattern), target, "int8")
    cost, tiling, expect = cost_layer(op, target), op.tiling, row["expect"]
    assert tiling is not None
    found = {
        **{"M": matrix.M, "K": matrix.K, "N": matrix.N, "g": matrix.groups, "macs": matrix.macs},
        **{"Kspan": tiling.k_span, "Kkept": tiling.k_kept, "kept_macs": tiling.computed_macs},
        **{"Wv": tiling.weight_bytes, "Wm": tiling.nm_metadata_bytes, "Wb": tiling.block_metadata_bytes},
        **{"W": tiling.stored_weight_bytes, "tW": tiling.weight_tiles, "tI": tiling.input_tiles},
        **{"I": matrix.inputs, "O": matrix.outputs, "dram_rd": tiling.dram_read_bytes},
        **{"comp": cost.compute_cycles, "smem": cost.onchip_cycles, "dram": cost.dram_cycles},
        **{"smem_bytes": tiling.onchip_bytes, "lat": cost.latency_cycles, "bound": cost.bound},
    }
    assert found == {key: expect[key] for key in found}
    assert cost.energy is not None
    energy = cost.energy[1]
    parts = {"mac": energy.mac, "lrf": energy.lrf, "rf": energy.rf, "smem": energy.buffer, "dram": energy.dram}
    assert parts == {key: pytest.approx(value, rel=PRECISION, abs=6e-5) for key, value in expect["E"].items()}
    assert energy.total_uj == pytest.approx(expect["E_uJ"], rel=PRECISION)


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_whole_resnet50_is_met_to_the_digit(row: dict[str, Any]) -> None:
    target = machine("worked_stc_edge")
    mode = WORKED["modes"][row["mode"]]
    layers = resnet50(lambda matrix, prunable: pattern_of(matrix, mode) if prunable else LayerSparsity())
    found = estimate(lower_layers(layers, target, source=Source(file="resnet50", sha256="")), target)
    expect, variant = row["expect"], found.as_is
    products = [layer for layer in variant.layers if layer.kind != "pool"]
    assert variant.latency_cycles == expect["cycles"]
    assert variant.stored_weight_bytes == expect["W"]
    assert variant.computed_macs == expect["kept"]
    assert sum(layer.macs for layer in products) == expect["macs"]
    assert sum(layer.compute_cycles for layer in products) == expect["comp"]
    assert sum(layer.onchip_cycles for layer in products) == expect["smem"]
    assert sum(layer.dram_cycles for layer in products) == expect["dram"]
    bounds = {name: sum(layer.bound == name for layer in products) for name in expect["bounds"]}
    assert bounds == expect["bounds"]
    assert sum(layer.latency_cycles for layer in variant.layers if layer.kind == "pool") == expect["aux"]
    assert variant.nominal_uj == pytest.approx(expect["energy_uJ"], rel=PRECISION)
    assert found.dense.latency_cycles == 4186816


def test_the_hybrid_resnet50_gains_what_the_reference_says_and_no_more() -> None:
    target = machine("worked_stc_edge")
    mode = WORKED["modes"]["hybrid"]
    layers = resnet50(lambda matrix, prunable: pattern_of(matrix, mode) if prunable else LayerSparsity())
    found = estimate(lower_layers(layers, target, source=Source(file="resnet50", sha256="")), target)
    assert found.speedup == pytest.approx(4.149, abs=5e-4)
    assert found.energy_ratio == pytest.approx(2.722, abs=5e-4)
    assert found.dense.latency_ms / found.nm_alone.latency_ms == pytest.approx(1.723, abs=5e-4)
    assert found.dense.latency_ms / found.blocks_alone.latency_ms == pytest.approx(2.880, abs=5e-4)
    assert found.amdahl.ceiling_with_overhead == pytest.approx(20, abs=0.05)
    assert {"conv1", "maxpool", "avgpool"} <= set(found.amdahl.left_dense)
