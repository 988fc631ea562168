"""Run by torchrun: `one_of_several.py MODEL MODE OUTPUT` recovers a small model on images that the processes share."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from recovery_runs import CLASSES, leave, make_task, refit_on, started
from safetensors.torch import save_file
from small_models import coloured_images

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, load
from crisp_onnx.processes import Processes, processes
from crisp_onnx.reconstruct import Refitted
from crisp_onnx.recover import MODES, NoKeeper, Training, loop, trained_tensors


def images_of(model: Model) -> Images:
    classes = Classes(CLASSES, tuple(map(str, CLASSES)))
    return open_images(coloured_images(32, seed=1), classes, None, parse_preprocess("signed", model.input))


def recovered(model: Model, mode: str, these: Processes) -> GraphModule:
    """In float32, so that what is left to compare is the order of sums. Batches of 15 images have unequal shares.

    A re-fit in the middle of training would magnify the last bits, so that only `fixed` has one, in front of it.
    """
    torch.set_num_threads(1)
    loop.autocast = lambda device: torch.autocast("cpu", torch.bfloat16, enabled=False)
    images, task = images_of(model), make_task(model)
    module, statistics = started(model, images, task)
    module.processes = these
    first_alone = refit_on(images) if mode == "fixed" else leave

    def refit(module: GraphModule, plan: Plan) -> Refitted:
        found = first_alone(module, plan) if these.first else Refitted(plan)
        these.spread(trained_tensors(module))
        return found

    training = Training(epochs=1, batch_size=15, peak_rate=0.02, flip=True, seed=5, patience=9, judged=images)
    MODES[mode].recover(module, images, statistics, task, training, refit, NoKeeper())
    return module


if __name__ == "__main__":
    path, mode, output = sys.argv[1:]
    with processes() as these:
        module = recovered(load(Path(path)), mode, these)
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in trained_tensors(module).items()},
        Path(output) / f"{these.rank}.safetensors",
    )
