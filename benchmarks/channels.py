"""How far channels can be removed from well-known networks, and what that gives in stock ONNX Runtime.

    python -m benchmarks.channels coverage          # share of weight layers and MACs that can become narrower
    python -m benchmarks.channels speed             # time at some shares of the MACs, one thread, batch 1

Widths are chosen by the norms of the weights: what counts here is the shapes, not the answers. Networks are those of
`topologies.py`, the light ones of the onnx package, and the folder of real models.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from benchmarks.network import Sparsity
from benchmarks.real_data import data_folder
from benchmarks.record import record
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.widths import Widths, widths_of, with_stated_lengths
from crisp_onnx.channels import choose, stock, weight_norms
from crisp_onnx.errors import CrispError
from crisp_onnx.format.pattern import Pattern
from crisp_onnx.model import Model, save
from crisp_onnx.passes import SliceChannels, run_pass
from crisp_onnx.recipe import Recipe
from crisp_onnx.runtime.latency import compare_runs, opened_run, seeded_input

NETWORKS = ("resnet50", "vgg16", "mobilenet_v2")
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
DENSE = Sparsity(Pattern(1, 1, 16, 1), 1.0)
SHARES = (0.5, 0.25, 0.1)
LANES = 16


def built(name: str, folder: Path) -> Path:
    """The file of a network with seeded weights, none of them zero."""
    path = folder / f"{name}.onnx"
    onnx.save(TOPOLOGIES[name](DENSE, hybrid=False), path)
    return path


def networks(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every network."""
    yield from ((name, built(name, folder)) for name in NETWORKS)
    yield from ((path.stem, path) for path in sorted(LIGHT.glob("light_*.onnx")))
    yield from ((path.stem, path) for path in sorted((data_folder() / "models").glob("*.onnx")))


def found_widths(path: Path) -> tuple[Prepared, Model, Widths | str]:
    """The network, with its lengths in numbers, and what can be narrower of it, or why nothing can."""
    prepared = prepare(path)
    model = with_stated_lengths(prepared.model, prepared.size)
    try:
        return prepared, model, widths_of(Recipe(model=path, classes=(0,), method="channels"), prepared, model)
    except CrispError as error:
        return prepared, model, str(error)


def coverage(folder: Path) -> None:
    """A row a network."""
    rows = []
    for name, path in networks(folder):
        prepared, _, widths = found_widths(path)
        free = [] if isinstance(widths, str) else [widths.groups[number] for number in widths.free]
        touched = {layer for group in free for layer in (*group.producers, *group.consumers)}
        layers = [layer for layer in prepared.layers if layer.name in touched]
        rows.append(
            {
                "network": name,
                "weight layers": len(prepared.layers),
                "can become narrower": len(layers),
                "share of layers": len(layers) / max(1, len(prepared.layers)),
                "share of MACs": sum(layer.macs for layer in layers) / max(1, prepared.macs),
                "groups": len(free),
                "why not": widths if isinstance(widths, str) else "",
            }
        )
    record("channel_coverage", "Layers that can lose channels", rows)


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


def speed(folder: Path) -> None:
    """A row a network and share: the same file whole and narrower take turns, both in stock ONNX Runtime."""
    rows = []
    for name in ("resnet50", "mobilenet_v2"):
        path = built(name, folder)
        prepared, model, widths = found_widths(path)
        assert not isinstance(widths, str)
        image = seeded_input(prepared.source.input, batch=1)
        for share in SHARES:
            narrow, reached = narrowed(model, widths, share)
            other = folder / f"{name}-{share}.onnx"
            save(narrow, other)
            timing = compare_runs([partial(opened_run, p, image, 1, native=False) for p in (path, other)], budget_s=6)
            whole, small = timing.sides_ms
            rows.append(
                {
                    "network": name, "share of MACs": reached, "whole ms": whole.median, "narrow ms": small.median,
                    "times as fast": timing.ratios[1].median, "p10": timing.ratios[1].p10, "p90": timing.ratios[1].p90,
                    "of the MACs' ratio": timing.ratios[1].median * reached, "noisy": timing.noisy,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    record(
        "channel_speed", "Narrower networks in stock ONNX Runtime", rows,
        notes=[f"One thread, batch 1, 224x224, widths multiples of {LANES}; p10, p90: of the ratio, round by round."],
    )  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        {"coverage": coverage, "speed": speed}[sys.argv[1]](Path(place))
