"""The published rows, each lowered and costed on the descriptor of its machine by the code that a user's model takes.

Usage: python benchmarks/cost_rows.py [FIXTURES.json] [--output DIR]

Prints a table: for every group of rows and what is compared, how many rows, mean and worst error, the tolerance. The
machines of the sources are descriptors in `tests/cost/machines`; rows of the accelerators that this package ships run
on the shipped descriptors too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from layer_lists import resnet50

from benchmarks.network import Sparsity
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.cost import Estimate, LayerCost, cost_layer, estimate
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import LayerSparsity, LoweredOp, Target, load_target, lower
from crisp_onnx.lowering.layer_sparsity import blocked
from crisp_onnx.lowering.layers import Layer, lower_layer, lower_layers
from crisp_onnx.lowering.lowered import Source
from crisp_onnx.lowering.matrix import Matrix, conv_matrix, product_matrix
from crisp_onnx.model import Model

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests/cost/data/cost_fixtures.json"
NETWORKS = ROOT / "tests/cost/data/vela_networks.json"
ETHOS = {"ethos-u65-256": "ethos_u65_256", "ethos-u65-512": "arm_ethos_u65"}
MACHINES = ROOT / "tests/cost/machines"
VELA_PATTERNS = {
    "dense": LayerSparsity(),
    "2:4": LayerSparsity(2, 4),
    "hybrid_2:4x25%_16x16": LayerSparsity(density=0.125),
}
CORAL_OUTPUTS = 1000


@dataclass(frozen=True)
class Checked:
    """One comparison. `error` in percent of what is expected, `tolerance` too; `what`: group, machine, quantity."""

    row: str
    what: tuple[str, str, str]
    found: float
    expected: float
    tolerance: float

    @property
    def error(self) -> float:
        return 100 * (self.found / self.expected - 1) if self.expected else 100.0 * (self.found != 0)

    @property
    def met(self) -> bool:
        return abs(self.error) <= self.tolerance


@cache
def machine(name: str) -> Target:
    """A machine of the sources, or a shipped target."""
    path = MACHINES / f"{name}.yaml"
    return load_target(path) if path.is_file() else load_target(name)


def groups(path: Path = FIXTURES) -> dict[str, Row]:
    return {group["group"]: group for group in json.loads(path.read_text())["groups"]}


def checked(groups_: dict[str, Row]) -> Iterator[Checked]:
    """Every comparison of every group."""
    for name, group in groups_.items():
        for row in group["rows"]:
            yield from GROUPS[name](row, group)


def costed(
    matrix: Matrix, pattern: LayerSparsity, target: Target, density: float = 1.0, op: str = "MatMul"
) -> tuple[LoweredOp, LayerCost]:
    """One layer on the road of every model: lowered to the target, then costed on it."""
    dtype = target.descriptor.dtypes[0]
    lowered = lower_layer(Layer("layer", op, "gemm", matrix, pattern, activation_density=density), target, dtype)
    return lowered, cost_layer(lowered, target)


def busy(cost: LayerCost) -> float:
    """Cycles without the fixed overhead, of which the sources know nothing."""
    return cost.latency_cycles - cost.overhead_cycles


def figure_15(row: Row, group: Row) -> Iterator[Checked]:
    design = row["design"]
    plain = design.removesuffix("-RLE")
    shipped = {"STC": "stc_edge_int8", "DSTC": "dstc_edge_int8"}.get(design)
    nm = tuple(row["nm"]) if row["nm"] else _nm_of(row["weight_density"])
    matrix = product_matrix(row["M"], row["K"], row["N"])
    tolerance = {key: group["tolerance"][f"{key}_pct"][plain] for key in ("cycles", "energy")}
    if design == "STC":
        tolerance["energy"] = 2
    for name in (f"fig15_{design}", *([shipped] if shipped else [])):
        _, cost = costed(matrix, LayerSparsity(*nm), machine(name), row["act_density"])
        expect = row["expect"]
        what = ("sparseloop_fig15", name)
        yield Checked(row["id"], (*what, "cycles"), busy(cost), expect["cycles"], tolerance["cycles"])
        yield Checked(row["id"], (*what, "energy"), cost.nominal_uj or 0, expect["energy_uJ"], tolerance["energy"])


def _nm_of(density: float) -> tuple[int, int]:
    """2:m of the density 2/m, which designs without patterns were given as well."""
    return (0, 0) if density >= 1 else (2, round(2 / density))


def figure_21(row: Row, group: Row) -> Iterator[Checked]:
    target = machine("fig21_DSTC")
    matrix = product_matrix(row["M"], row["K"], row["N"])
    _, sparse = costed(matrix, LayerSparsity(density=row["dA"]), target, row["dB"])
    dense = Fraction(matrix.macs) / target.peak_macs("int8")
    ratio = busy(sparse) / float(dense)
    what = ("dstc_fig21", "fig21_DSTC", "cycles over dense")
    yield Checked(row["id"], what, ratio, row["expect"]["ratio_to_dense"], group["tolerance"]["ratio_pct"])


def third_party(row: Row, group: Row) -> Iterator[Checked]:
    design = row["design"]
    pattern = LayerSparsity(density=row["dA"])
    if design == "nvstc":
        pattern = LayerSparsity(2, 4)
    matrix = product_matrix(row["M"], row["K"], row["N"])
    _, cost = costed(matrix, pattern, machine(f"rmstc_{design}"), row["dB"])
    what = ("sparseloop_rmstc_repo", f"rmstc_{design}", "cycles")
    tolerance = group["tolerance"]["cycles_pct"][design]
    yield Checked(row["id"], what, busy(cost), row["expect"]["cycles"], tolerance)


@cache
def systolic_machine(dataflow: str, rows: int, columns: int) -> Target:
    """The descriptor of a dataflow with another size of the array."""
    target = machine(f"scalesim_{dataflow}")
    array = target.descriptor.array
    sized = {
        "rows": array.rows.model_copy(update={"value": rows}),  # type: ignore[union-attr]
        "lanes": array.lanes.model_copy(update={"value": columns}),  # type: ignore[union-attr]
        "peak_dense_mac_per_cycle": None,
    }
    descriptor = target.descriptor.model_copy(update={"array": array.model_copy(update=sized)})
    return replace(target, descriptor=descriptor, _converted={})


def scale_sim(row: Row, group: Row) -> Iterator[Checked]:
    target = systolic_machine(row["dataflow"], *row["array"])
    # SCALE-Sim's M are positions and its N output channels.
    matrix = product_matrix(row["N"], row["K"], row["M"])
    expect = row["expect"]
    op, cost = costed(matrix, LayerSparsity(*(row["nm"] or (0, 0))), target)
    what = ("scalesim_v3", f"scalesim_{row['dataflow']}")
    # Stalls come from its simulation of memory, which no formula here predicts.
    yield Checked(row["id"], (*what, "cycles"), busy(cost) + expect["stall_cycles"], expect["total_cycles"], 0)
    if row["nm"] and op.tiling:
        words = op.tiling.stored_weight_bytes / 4
        yield Checked(row["id"], (*what, "filter words"), words, expect["filter_words_new"], 0)


def vela(row: Row, group: Row) -> Iterator[Checked]:
    name = ETHOS[row["accelerator"]]
    k, pad, channels = row["k"], row["k"] // 2, row["Cin"] if row["depthwise"] else 1
    matrix = conv_matrix(
        (row["Cout"], row["Cin"] // channels, k, k),
        (1, row["Cin"], row["H"], row["H"]),
        stride=(row["stride"], row["stride"]),
        pads=(pad, pad, pad, pad),
    )
    op, cost = costed(matrix, VELA_PATTERNS[row["pattern"]], machine(name), op="Conv")
    expect, tolerance = row["expect"], group["tolerance"]
    kind = "depthwise" if row["depthwise"] else "first convolution" if row["Cin"] == 3 else "convolution"
    limit = tolerance["npu_pct_conv"]
    if row["depthwise"]:
        limit = tolerance["npu_pct_depthwise"]
    elif row["Cin"] == 3:
        limit = tolerance["npu_pct_first_conv"]
    elif k == 1 and row["H"] == 56:
        limit = tolerance["npu_pct_1x1_56x56"]
    what = ("vela_ethos_u65", name)
    yield Checked(row["id"], (*what, f"array cycles, {kind}"), cost.compute_cycles, expect["npu_cycles"], limit)
    yield Checked(row["id"], (*what, "whole cycles"), busy(cost), expect["total_cycles"], 25)
    if expect["weight_bytes"] > tolerance["encoded_weight_min_bytes"] and op.tiling:
        stored = op.tiling.stored_weight_bytes
        bound = tolerance["encoded_weight_pct"]
        yield Checked(row["id"], (*what, "encoded weights"), stored, expect["encoded_weight_bytes"], bound)


@cache
def dense_network(name: str) -> Model:
    """A network of the benchmarks with every weight in place."""
    proto = TOPOLOGIES[name](Sparsity(Pattern(4, 4, 16, 8), 1.0), hybrid=False)
    return Model(proto, Path(f"{name}.onnx"), "")


def vela_network(row: Row, group: Row) -> Iterator[Checked]:
    name = ETHOS[row["accelerator"]]
    target = machine(name)
    found = estimate(lower(dense_network(row["network"]), target), target).as_is.latency_cycles
    what = ("vela_networks", name, "whole cycles")
    yield Checked(row["id"], what, found, row["expect"]["total_cycles"], group["tolerance"]["total_pct"])


def coral(row: Row, group: Row) -> Iterator[Checked]:
    target = machine("coral_edge_tpu")
    weights = round(row["params_M_from_memory"] * 1e6)
    layer = Layer("weights", "Gemm", "gemv", product_matrix(CORAL_OUTPUTS, weights // CORAL_OUTPUTS, 1))
    found = estimate(lower_layers([layer], target, source=Source(file=row["id"], sha256="")), target)
    exempt = any(name in row["id"] for name in group["tolerance"]["exempt"])
    what = ("coral_measured", "coral_edge_tpu", "ms of exempt models" if exempt else "ms")
    tolerance = 120 if exempt else group["tolerance"]["usb3_pct"]
    yield Checked(row["id"], what, found.as_is.latency_ms, row["expect"]["usb3_ms"], tolerance)


def worked_matrix(layer: Row) -> Matrix:
    k, pad = layer["k"], layer["k"] // 2
    return conv_matrix(
        (layer["cout"], layer["cin"] // layer.get("g", 1), k, k),
        (1, layer["cin"], layer["h"], layer["h"]),
        stride=(layer["s"], layer["s"]),
        pads=(pad, pad, pad, pad),
        residuals=layer.get("res", 0),
    )


def worked_pattern(matrix: Matrix, mode: Row) -> LayerSparsity:
    pattern = LayerSparsity(*mode.get("nm", (0, 0)))
    if "keep" in mode:
        pattern = blocked(pattern, Fraction(str(mode["keep"])), matrix.K, *mode["block"])
    return pattern


def worked_network(mode: Row, target: Target) -> Estimate:
    layers = resnet50(lambda matrix, prunable: worked_pattern(matrix, mode) if prunable else LayerSparsity())
    return estimate(lower_layers(layers, target, source=Source(file="resnet50", sha256="")), target)


def worked(row: Row, group: Row) -> Iterator[Checked]:
    target, expect = machine("worked_stc_edge"), row["expect"]
    mode, what = group["modes"][row["mode"]], ("worked_stc_edge", "worked_stc_edge")
    energy_tolerance = group["tolerance"]["energy_pct"]
    if "layer" not in row:
        found = worked_network(mode, target).as_is
        yield Checked(row["id"], (*what, "cycles"), found.latency_cycles, expect["cycles"], 0)
        yield Checked(row["id"], (*what, "energy"), found.nominal_uj or 0, expect["energy_uJ"], energy_tolerance)
        return
    matrix = worked_matrix(row["layer"])
    op, cost = costed(matrix, worked_pattern(matrix, mode), target, op="Conv")
    if op.tiling is None:
        return
    yield Checked(row["id"], (*what, "cycles"), cost.latency_cycles, expect["lat"], 0)
    yield Checked(row["id"], (*what, "bytes read"), op.tiling.dram_read_bytes, expect["dram_rd"], 0)
    yield Checked(row["id"], (*what, "energy"), cost.nominal_uj or 0, expect["E_uJ"], energy_tolerance)


GROUPS = {
    "sparseloop_fig15": figure_15,
    "dstc_fig21": figure_21,
    "sparseloop_rmstc_repo": third_party,
    "scalesim_v3": scale_sim,
    "vela_ethos_u65": vela,
    "vela_networks": vela_network,
    "coral_measured": coral,
    "worked_stc_edge": worked,
}


def table(found: Iterable[Checked]) -> str:
    """Markdown: a row for every group, machine and quantity."""
    by: dict[tuple[str, str, str], list[Checked]] = defaultdict(list)
    for item in found:
        by[item.what].append(item)
    lines = [
        "| group | machine | compared | rows | mean error | worst error | tolerance | met |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for (group, name, quantity), items in by.items():
        errors = [item.error for item in items]
        mean, worst = sum(map(abs, errors)) / len(errors), max(errors, key=abs)
        most = max(item.tolerance for item in items)
        met = sum(item.met for item in items)
        lines.append(
            f"| {group} | {name} | {quantity} | {len(items)} | {mean:.3g} % | {worst:+.3g} % | {most:g} % | {met} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixtures", type=Path, nargs="?", default=FIXTURES)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    text = table(checked({**groups(options.fixtures), **groups(NETWORKS)}))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "cost_rows.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
