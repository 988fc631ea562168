"""A short training of the weights that are left with rounding in the loop: what the network is in int8 learns."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from crisp_onnx.bridge import GraphModule, to_torch, usable_batch, write_back
from crisp_onnx.bridge.module import Lens
from crisp_onnx.data import Images
from crisp_onnx.format.node import Grid
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model
from crisp_onnx.quantize.choice import Emission, weight_places
from crisp_onnx.quantize.noise import LayerPlace
from crisp_onnx.quantize.rounding import on_grid, on_rows
from crisp_onnx.recover import Task, put_masks, training_for
from crisp_onnx.recover.fixed import Fixed
from crisp_onnx.recover.loop import Loop

SHARE = 10
"""Of the passes that recovery has had, one in so many comes again, and one at least."""
RATE = 0.0005
BATCH = 64


def passes(epochs: int) -> int:
    """How many passes over the images follow so many of recovery."""
    return -(-epochs // SHARE)


def trained_rounded(
    emission: Emission,
    plan: Plan,
    task: Task,
    grids: Mapping[str, Grid],
    layers: Sequence[str],
    images: Images,
    held_out: Images,
    *,
    epochs: int,
    seed: int,
) -> Model:
    """`emission.dense` after training in which the named layers and the tensors on `grids` are rounded.

    It is taught by itself in float32. The plan's masks hold.
    """
    module = to_torch(emission.dense, (emission.task.logits,))
    teacher = copy.deepcopy(module)
    put_masks(module, plan)
    places = [place for place in weight_places(emission.dense.graph()) if place.name in layers]
    module.set_lenses(_lenses(module, places, grids))
    batch = usable_batch(module, emission.dense.input, BATCH, fixed=emission.batch, size=emission.size)
    training, _ = training_for(module, images, held_out, task, epochs, batch_size=batch, seed=seed)
    training = replace(training, peak_rate=RATE, patience=None)
    with torch.enable_grad():
        loop = Loop(module, images, task, training, Fixed(module, plan, task), teacher=teacher, part="int8")
        loop.run()
        loop.finish()
    module.set_lenses({})
    return write_back(module.cpu(), emission.dense)


def _lenses(module: GraphModule, places: Sequence[LayerPlace], grids: Mapping[str, Grid]) -> dict[str, Lens]:
    computed = {name for node in module.nodes for name in node.outputs} | set(module.input_names)
    outside = set(module.output_names)
    rounded: dict[str, Lens] = {
        name: partial(on_grid, grid=grid) for name, grid in grids.items() if name in computed - outside
    }
    return rounded | {place.weight: partial(on_rows, axis=place.axis) for place in places}
