"""Run the rows of an accuracy table that are not there yet. See README.md.

python -m benchmarks.accuracy.run one_shot [--only set=0,sparsity=0.75] [--device cuda] [--again]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import click

from benchmarks.accuracy.cases import TABLES, Case
from benchmarks.accuracy.measure import ALL, Result, measured
from benchmarks.real_data import EVERY
from benchmarks.record import record
from crisp_onnx.report.interval import wilson

RESULTS = Path(__file__).parents[1] / "results"
Row = dict[str, object]


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@click.option("--only", default="", metavar="KEY=VALUE,...", help="Rows that say all of these alone.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--untimed", is_flag=True, help="Leave the seconds empty, as where other programs run too.")
@click.option("--again", is_flag=True, help="Measure rows anew that are there already.")
def main(table: str, only: str, device: str, untimed: bool, again: bool) -> None:
    """Measure, print, and write table and raw results after every row."""
    title, rows = TABLES[table]
    done = known(table)
    wanted = {part.strip() for part in only.split(",") if part.strip()}
    cases = list(rows())
    for case in cases:
        if wanted <= case.words and (again or case.key not in done):
            found = measured(case, device)
            done = known(table) | {case.key: found | {"seconds": None} if untimed else found}
            print(case.key, done[case.key], flush=True)
            write(table, title, cases, done)
    write(table, title, cases, known(table))


def known(table: str) -> dict[str, Result]:
    """The raw results that there are, those of other programs that run meanwhile too."""
    path = RESULTS / f"accuracy_{table}.json"
    found: dict[str, Result] = json.loads(path.read_text())["raw"] if path.exists() else {}
    return found


def write(table: str, title: str, cases: Sequence[Case], done: Mapping[str, Result]) -> None:
    """The table in the order of its rows, means over class sets where all of them are there, and the raw results.

    Columns that say the same in every row stand in a note.
    """
    there = [case for case in cases if case.key in done]
    if not there:
        return
    rows = [row(case, done) for case in there]
    names = list(rows[0])
    alike = [name for name in names[:-1] if len(rows) > 1 and len({str(line[name]) for line in rows}) == 1]
    notes = [
        "Logits restricted to the user's classes; 95 % Wilson intervals. Errors are of a layer's outputs.",
        "; ".join(f"{name} {rows[0][name]}" for name in alike if rows[0][name] is not None),
        *means(there, done),
    ]
    rows = [{name: line[name] for name in names if name not in alike} for line in rows]
    record(f"accuracy_{table}", title, rows, notes=[note for note in notes if note], raw=done)


def means(cases: Sequence[Case], done: Mapping[str, Result]) -> list[str]:
    """Of each group of rows that differ in the class set alone, or in the seed, where it has several."""
    groups: dict[tuple[Case, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((replace(case, set=-1), "sets"), []).append(case)
        groups.setdefault((replace(case, seed=-1), "seeds"), []).append(case)
    told = []
    for (group, several), members in groups.items():
        if len(members) < 2 or group.is_ceiling:
            continue
        name = group.key.replace("set=-1, ", "").replace(", seed=-1", "")
        text = f"{name}: {_mean(below(done[case.key]) for case in members)} points below the untouched model"
        if all(case.ceiling.key in done for case in members):
            text += f", {_mean(below_ceiling(case, done) for case in members)} below the ceiling"
        told.append(f"{text}, the mean of {len(members)} {several}.")
    return told


def row(case: Case, done: Mapping[str, Result]) -> Row:
    """A line of the table."""
    found = done[case.key]
    n, right = int(found["n"] or 0), int(found["right"] or 0)
    low, high = wilson(right, n)
    return {
        "model": case.model,
        "set": case.set,
        "classes": ALL if case.set == EVERY else case.drawn,
        "budget": budget(case),
        "method": case.method,
        "widths": case.widths,
        "saliency": case.saliency,
        "allocation": case.allocation,
        "masks": case.masks if case.reconstruct != "none" else "saliency",
        "pattern": f"{case.pattern}, block {case.block}, V {case.vector_rows}",
        "layout": case.layout,
        "images": case.images if case.learnt == "user" else "of all classes",
        "reordered": case.reorder,
        "reconstruct": case.reconstruct,
        "recovery": case.recovery,
        "epochs": case.epochs,
        "seed": case.seed,
        "untouched": f"{found['untouched']} of {n}",
        "right": right,
        "%": f"{100 * right / n:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        "points below untouched": round(below(found), 1),
        "below ceiling": round(below_ceiling(case, done), 1) if case.epochs and case.ceiling.key in done else None,
        "MACs left": found.get("MACs left"),
        "times as fast": found.get("times as fast") if case.speedup else None,
        "median error before": found.get("error before"),
        "after": found.get("error after"),
        "device": found.get("device"),
        "seconds": found["seconds"],
    }


def budget(case: Case) -> str:
    """What the row was asked for."""
    if case.speedup:
        return f"{case.speedup:g} times as fast"
    if case.macs:
        return f"{100 * case.macs:g} % of the MACs"
    return f"{100 * case.sparsity:g} % zeros" if case.sparsity else "none, the ceiling"


def below(found: Result) -> float:
    """Points below the untouched model."""
    return 100 * ((found["untouched"] or 0) - (found["right"] or 0)) / (found["n"] or 1)


def below_ceiling(case: Case, done: Mapping[str, Result]) -> float:
    """Points below the dense model fine-tuned by the same recipe."""
    found, most = done[case.key], done[case.ceiling.key]
    return 100 * ((most["right"] or 0) - (found["right"] or 0)) / (found["n"] or 1)


def _mean(values: Iterable[float]) -> str:
    return f"{fmean(values):.1f}"


if __name__ == "__main__":
    main()
