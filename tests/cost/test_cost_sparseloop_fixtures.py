"""Published tensor cores against the figures of their sources: Sparseloop, DSTC, third-party runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published.dual_sided import fold_ratio, run_dual_sided
from published.reloading import DENSE_TC, DSTC_16BIT, NVSTC, reloading_cycles
from published.sparseloop import DUAL_SIDE_PAPER, run_design

from crisp_onnx.errors import CrispError

GROUPS = {g["group"]: g for g in json.loads((Path(__file__).parent / "data/cost_fixtures.json").read_text())["groups"]}
FIG15 = GROUPS["sparseloop_fig15"]
FIG21 = GROUPS["dstc_fig21"]
THIRD_PARTY = GROUPS["sparseloop_rmstc_repo"]


def percent(found: float, expected: float) -> float:
    return 100 * (found / expected - 1)


def figure_15(row: dict[str, Any]) -> tuple[float, float]:
    """(cycles error, energy error) in percent."""
    tile = row.get("tile")
    run = run_design(
        row["design"],
        row["M"],
        row["K"],
        row["N"],
        weight_density=row["weight_density"],
        activation_density=row["act_density"],
        tile=(tile["TA"], tile["TB"]) if tile else None,
        arrangement=(tile["spatial_M"], tile["spatial_N"]) if tile else None,
    )
    expect = row["expect"]
    return percent(run.cycles, expect["cycles"]), percent(run.energy_uj, expect["energy_uJ"])


@pytest.mark.parametrize("row", FIG15["rows"], ids=lambda row: row["id"])
def test_every_row_of_figure_15_is_met_within_its_tolerance(row: dict[str, Any]) -> None:
    design = row["design"].removesuffix("-RLE")
    cycles, energy = figure_15(row)
    cycle_tolerance = FIG15["tolerance"]["cycles_pct"][design]
    assert abs(cycles) <= (cycle_tolerance if design == "DSTC" else 0.01)
    assert abs(energy) <= FIG15["tolerance"]["energy_pct"][design]


def test_the_dual_sided_core_is_met_within_four_percent_on_average() -> None:
    errors = [abs(figure_15(row)[0]) for row in FIG15["rows"] if row["design"] == "DSTC"]
    assert sum(errors) / len(errors) <= 4
    assert max(errors) <= 12


def test_a_two_to_eight_pattern_is_hardly_faster_than_two_to_four() -> None:
    # The buffer delivers what 2:4 needs; 2:8 needs 76 words a cycle where 42 are there.
    two, eight = (
        run_design("STC_flexible", 128, 1152, 1024, weight_density=d, activation_density=1.0).cycles
        for d in (0.5, 0.25)
    )
    assert two / eight == pytest.approx(73728 / 66707, rel=1e-3)


def test_a_fixed_two_to_four_core_runs_sparser_patterns_no_faster() -> None:
    cycles = {
        d: run_design("STC", 512, 256, 1024, weight_density=d, activation_density=0.82).cycles for d in (0.5, 0.25)
    }
    assert cycles[0.5] == cycles[0.25] == 65536


@pytest.mark.parametrize("row", FIG21["rows"], ids=lambda row: row["id"])
def test_every_ratio_of_the_dual_side_paper_is_met(row: dict[str, Any]) -> None:
    ratio = fold_ratio(DUAL_SIDE_PAPER, row["dA"], row["dB"], (32, 32))
    assert abs(percent(ratio, row["expect"]["ratio_to_dense"])) <= FIG21["tolerance"]["ratio_pct"]


@pytest.mark.parametrize("row", THIRD_PARTY["rows"], ids=lambda row: row["id"])
def test_every_third_party_run_is_met(row: dict[str, Any]) -> None:
    shape = row["M"], row["K"], row["N"]
    if row["design"] == "dstc":
        cycles = run_dual_sided(DSTC_16BIT, *shape, weight_density=row["dA"], activation_density=row["dB"]).cycles
        assert abs(percent(cycles, row["expect"]["cycles"])) <= 4
    else:
        assert (
            reloading_cycles({"dense_tc": DENSE_TC, "nvstc": NVSTC}[row["design"]], *shape) == row["expect"]["cycles"]
        )


def test_a_dense_product_is_slower_on_the_dual_sided_core_than_on_the_dense_one() -> None:
    shape = 2048, 2048, 2048
    dual = run_dual_sided(DSTC_16BIT, *shape, weight_density=1.0, activation_density=1.0)
    assert dual.cycles / reloading_cycles(DENSE_TC, *shape) == pytest.approx(144 / 116)
    assert dual.bound == "accumulator"


def test_an_unknown_design_and_an_impossible_density_are_refused() -> None:
    with pytest.raises(CrispError, match="Unknown design 'STCC'"):
        run_design("STCC", 64, 64, 64, weight_density=1.0, activation_density=1.0)
    with pytest.raises(CrispError, match="2/m"):
        run_design("STC", 64, 64, 64, weight_density=0.9, activation_density=1.0)
