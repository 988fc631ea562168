"""What narrower networks give in stock ONNX Runtime: time at some shares of the MACs, one thread, batch 1.

python -m benchmarks.channels [--network resnet50 ...] [--budget-s 6]

Widths are chosen by the norms of the weights: what counts here is the shapes, not the answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import click
import onnx
import onnx_graphsurgeon as gs

from benchmarks.network import Sparsity
from benchmarks.record import record
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.widths import Widths, widths_of, with_stated_lengths
from crisp_onnx.channels import choose, stock, weight_norms
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import Model, save
from crisp_onnx.passes import SliceChannels, run_pass
from crisp_onnx.recipe import Recipe
from crisp_onnx.runtime.latency import compare_runs, opened_run, seeded_input

DENSE = Sparsity(Pattern(1, 1, 16, 1), 1.0)
SHARES = (0.5, 0.25, 0.1)
LANES = 16


def built(name: str, folder: Path) -> Path:
    """The file of a network with seeded weights, none of them zero."""
    path = folder / f"{name}.onnx"
    onnx.save(TOPOLOGIES[name](DENSE, hybrid=False), path)
    return path


def narrowed(model: Model, widths: Widths, share: float) -> tuple[Model, float]:
    """The model at that share of its MACs, and the share that it came to."""
    tensors = model.graph().tensors()
    stored = {name: tensor.values for name, tensor in tensors.items() if isinstance(tensor, gs.Constant)}
    groups = [widths.groups[number] for number in widths.free]
    worth = dict(zip(widths.free, weight_norms(groups, stored), strict=True))
    full, count = widths.whole, len(widths.groups)
    stocks = stock(widths.groups, worth, LANES)
    choice = choose(stocks, widths.cost, share * full, count)
    graph = model.graph()
    run_pass(SliceChannels(choice.removals, widths.shapes), graph)
    return model.with_graph(graph), choice.reached / full


@click.command()
@click.option(
    "--network", "networks", multiple=True, default=("resnet50", "mobilenet_v2"), type=click.Choice(list(TOPOLOGIES))
)
@click.option("--budget-s", default=6.0, show_default=True, help="Seconds a network and share.")
def main(networks: tuple[str, ...], budget_s: float) -> None:
    """The same file whole and narrower take turns, both in stock ONNX Runtime; print and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in networks for row in _rows(name, Path(folder), budget_s)]
    record(
        "channel_speed", "Narrower networks in stock ONNX Runtime", rows,
        notes=[f"One thread, batch 1, 224x224, widths multiples of {LANES}; p10, p90: of the ratio, round by round."],
    )  # fmt: skip


def _rows(name: str, folder: Path, budget_s: float) -> Iterator[Mapping[str, object]]:
    path = built(name, folder)
    prepared = prepare(path)
    model = with_stated_lengths(prepared.model, prepared.size)
    widths = widths_of(Recipe(model=path, classes=(0,), method="channels"), prepared, model)
    image = seeded_input(prepared.source.input, batch=1)
    for share in SHARES:
        narrow, reached = narrowed(model, widths, share)
        other = folder / f"{name}-{share}.onnx"
        save(narrow, other)
        sides = [partial(opened_run, p, image, 1, native=False) for p in (path, other)]
        timing = compare_runs(sides, threads=1, budget_s=budget_s)
        whole, small = timing.sides_ms
        row = {
            "network": name, "share of MACs": reached, "whole ms": whole.median, "narrow ms": small.median,
            "times as fast": timing.ratios[1].median, "p10": timing.ratios[1].p10, "p90": timing.ratios[1].p90,
            "of the MACs' ratio": timing.ratios[1].median * reached, "noisy": timing.noisy,
        }  # fmt: skip
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
