"""Of which layers channels can be removed, topology by topology, beside Torch-Pruning asked about the same network.

python -m benchmarks.channel_coverage [--network ViT-B/16 ...] [--scale 0.25] [--alone]

A layer is covered if it can lose outputs or inputs; counted are all layers with a stored weight, transposed
convolutions too. Then half of the channels of every group go, by number: what is left of the MACs says how much of each
layer its groups hold. Torch-Pruning runs in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx_graphsurgeon as gs
import torch

from benchmarks.peers.environments import Unavailable, python_of
from benchmarks.record import record
from benchmarks.torch_topologies import TOPOLOGIES
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.widths import widths_of, with_stated_lengths
from crisp_onnx.model.macs import constant_nodes, macs_of
from crisp_onnx.recipe import Recipe
from crisp_onnx.task.kinds import CLASSIFICATION, SEGMENTATION

WORKER = Path(__file__).with_name("torch_pruning_coverage.py")
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Coverage:
    """`layers`: with a stored weight; `covered` can lose channels, `macs` of all theirs. `halved`: MACs left."""

    layers: int
    covered: int
    macs: float
    halved: float
    missing: tuple[str, ...]


def exported(name: str, folder: Path, scale: float) -> Path:
    """The topology's ONNX file, BatchNorm folded, with an open batch."""
    topology, path = TOPOLOGIES[name], folder / f"{name.replace('/', '-')}.onnx"
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its other exporter is newer
        torch.onnx.export(
            topology.build(scale).eval(), (torch.zeros(2, 3, topology.side, topology.side),), str(path),
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}}, opset_version=17,
            dynamo=False,
        )  # fmt: skip
    return path


def coverage(path: Path, task: str = CLASSIFICATION) -> Coverage:
    """Of an ONNX file.

    Raises:
        CrispError: nothing of it can be removed.
    """
    prepared = prepare(path, task=task)
    model = with_stated_lengths(prepared.model, prepared.size)
    widths = widths_of(Recipe(model=path, classes=(0,), method="channels", task=task), prepared, model)
    held = {member.tensor for number in widths.free for member in widths.groups[number].members}
    graph = model.graph()
    still = constant_nodes(graph)
    macs = {node.name: macs_of(node, widths.shapes) or 0 for node in graph.nodes if node.name not in still}
    stored = {
        node.name: {tensor.name for tensor in node.inputs[:2] if isinstance(tensor, gs.Constant)}
        for node in graph.nodes
        if node.op in PRODUCTS
    }
    layers = {name: weights for name, weights in stored.items() if weights}
    found = [name for name, weights in layers.items() if weights & held]
    half = np.zeros(len(widths.groups))
    half[list(widths.free)] = [widths.groups[number].width // 2 for number in widths.free]
    left = widths.cost.at(half) / widths.whole
    return Coverage(
        len(layers), len(found), sum(macs[name] for name in found) / sum(macs[name] for name in layers), left,
        tuple(name for name in layers if name not in found),
    )  # fmt: skip


def by_torch_pruning(name: str, scale: float, python: Path) -> Mapping[str, object]:
    """What the worker says of the same module, or why it says nothing."""
    command = [str(python), str(WORKER), name, str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=WORKER.parents[1])
    if done.returncode:
        return {"fails": (done.stderr.strip().splitlines() or ["it ended"])[-1]}
    answer: Mapping[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@click.command()
@click.option("--network", "networks", multiple=True, default=tuple(TOPOLOGIES), type=click.Choice(list(TOPOLOGIES)))
@click.option("--scale", default=1.0, show_default=True, help="Of all widths.")
@click.option("--alone", is_flag=True, help="Without Torch-Pruning.")
def main(networks: tuple[str, ...], scale: float, alone: bool) -> None:
    """Count, print and write the table."""
    try:
        python = None if alone else python_of("torch-pruning")
    except Unavailable as error:
        raise click.ClickException(f"Torch-Pruning does not install: {error}") from None
    rows = []
    for name in networks:
        with tempfile.TemporaryDirectory() as folder:
            ours = coverage(exported(name, Path(folder), scale), SEGMENTATION if name == "U-Net" else CLASSIFICATION)
        theirs = by_torch_pruning(name, scale, python) if python else {}
        rows.append(
            {
                "network": name, "weight layers": ours.layers, "covered": ours.covered, "of the MACs": ours.macs,
                "MACs left at half": ours.halved, "Torch-Pruning: layers": theirs.get("layers"),
                "T-P: covered": theirs.get("covered"), "T-P: of the MACs": theirs.get("macs"),
                "T-P: MACs left at half": theirs.get("halved"), "T-P fails": theirs.get("fails"),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    record(
        "channel_coverage", "Layers that can lose channels, beside Torch-Pruning 1.6.1", rows,
        notes=[
            "Covered: can lose outputs or inputs, of all layers with a stored weight; MACs are those of such layers.",
            "MACs left at half: with half of the channels, or of the attention heads, of every group gone; ours counts "
            "products of activations too.",
            "ViT-B/16: Torch-Pruning also takes columns inside heads, and normalises over the channels that are left, "
            "so that its answers are not those of zeros in place; ours are.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
