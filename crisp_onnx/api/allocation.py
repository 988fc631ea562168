"""Measure what each layer would lose, for a budget to be shared by; kept, so that a run that is taken up has it."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images
from crisp_onnx.masks import Curve
from crisp_onnx.reconstruct import error_curves
from crisp_onnx.recover import Keeper, State, Task
from crisp_onnx.saliency import output_squares

PART = "curves"
IMAGES, IMAGES_IF_LARGE, LARGE_PIXELS = 256, 64, 128 * 128
"""Whose gradients say what the loss minds: a number for each output of a layer, which few images tell."""


def layer_curves(
    module: GraphModule, task: Task, images: Images, judged: Images, keeper: Keeper, *, batch_size: int, seed: int
) -> dict[str, Curve]:
    """By layer name, for every layer that may become sparse. `judged`: images that errors are measured on."""
    found = keeper.get(PART)
    if found is not None:
        values = {name: tensor.numpy() for name, tensor in found.tensors.items()}
        return {name: Curve(value[:-1], float(value[-1])) for name, value in values.items()}
    candidates = task.planner.candidates
    most = IMAGES if prod(images.preprocess.size) <= LARGE_PIXELS else IMAGES_IF_LARGE
    some = images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))
    minded = output_squares(module, candidates.free, some, task.answers, batch_size=batch_size)
    curves = error_curves(module, candidates, minded, images, judged, batch_size=batch_size, seed=seed)
    tensors = {name: torch.tensor(np.append(curve.gains, curve.rest)) for name, curve in curves.items()}
    keeper.put(PART, State(tensors, {}))
    return curves
