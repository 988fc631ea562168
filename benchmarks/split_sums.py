"""Convolutions as sum-pools and smaller kernels: how far kernels of a real network are that, what it saves and costs.

python -m benchmarks.split_sums [--epochs 5] [--budget-s 1]

Of each convolution of resnet18w32_cifar100, the share of its kernel that is no sum over windows, and its time in stock
ONNX Runtime before and after. Then the layers that are faster so are split, those with a residual of at most 0.6,
without training and after it, for the ten classes of set 0.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import click
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import RESULTS, record
from crisp_onnx import Recipe
from crisp_onnx.api.planning import make_planner, make_task
from crisp_onnx.api.prepare import Prepared, described, prepare
from crisp_onnx.api.sight import HELD_OUT
from crisp_onnx.api.words import find_classes, find_preprocess
from crisp_onnx.bridge import to_torch, write_back
from crisp_onnx.data import hold_out, open_images
from crisp_onnx.model import Model, WeightLayer, save
from crisp_onnx.passes import SplitSums, run_pass
from crisp_onnx.passes.split_sums import core_of
from crisp_onnx.recover import reestimate, train_narrow, training_for
from crisp_onnx.runtime.evaluate import compare_on, open_stock
from crisp_onnx.runtime.latency import Timing, compare_runs, opened_run
from crisp_onnx.task import task_of

WINDOWS = (2, 3)
LAYERS = "split_sums_layers"
MOST = (0.0, 0.6)
BATCH, SEED = 64, 0


@click.command()
@click.option("--epochs", default=5, show_default=True)
@click.option("--budget-s", default=1.0, show_default=True, help="Seconds a layer and window.")
@click.option("--again", is_flag=True, help="Time the layers anew though results/split_sums_layers.json has them.")
def main(epochs: int, budget_s: float, again: bool) -> None:
    """Measure, print and write both tables."""
    folder = data_folder()
    prepared = prepare(folder / "models" / RESNET)
    path = RESULTS / f"{LAYERS}.json"
    if again or not path.exists():
        record(
            LAYERS, "How near kernels are to sums over windows, and what these save", list(_layers(prepared, budget_s)),
            notes=[
                "Residual: |W - projected W| / |W|. One thread, batch 1, each layer alone in stock ONNX Runtime.",
                "A window of 2 leaves 44 % of a layer's MACs, one of 3 11 %; the pool's additions are not counted.",
            ],
        )  # fmt: skip
    rows = [row for row in json.loads(path.read_text())["rows"] if row["window"] == WINDOWS[0]]
    faster = {row["layer"]: row["residual"] for row in rows if row["times as fast"] > 1}
    record(
        "split_sums_accuracy", "A ResNet-18 whose kernels are sums over windows of 2",
        [row for most in MOST for row in _accuracy(prepared, faster, most, epochs, folder)],
        notes=[
            "resnet18w32_cifar100, ten classes (set 0), right of 1,000 with the logits restricted to them. Only layers "
            "that were faster split are; 'most residual' is what each may lose; with 0 none is split: the ceiling.",
            f"{epochs} epochs as a network with fewer channels trains: by the whole one's answers and features.",
            "Without training, BatchNorm is re-estimated on the images of the ten classes, which alone costs the whole "
            "network 27.",
        ],
    )  # fmt: skip


def _layers(prepared: Prepared, budget_s: float) -> Iterator[Mapping[str, object]]:
    tensors = prepared.model.graph().tensors()
    for layer in prepared.layers:
        if layer.op != "Conv" or min(layer.shape[2:]) < WINDOWS[0]:
            continue
        for window in WINDOWS:
            timing = _timed(prepared.model, layer, prepared.shapes, window, budget_s)
            whole, split = timing.sides_ms
            yield {
                "layer": layer.name, "shape": "x".join(map(str, layer.shape)), "window": window,
                "residual": core_of(tensors[layer.weight].values, window)[1], "whole ms": whole.median,
                "split ms": split.median, "times as fast": timing.ratios[1].median, "noisy": timing.noisy,
            }  # fmt: skip


def _timed(
    model: Model, layer: WeightLayer, shapes: Mapping[str, tuple[int, ...]], window: int, budget_s: float
) -> Timing:
    """One convolution of the model alone, as it is and split."""
    node = next(node for node in model.proto.graph.node if node.name == layer.name)
    weight = next(numpy_helper.to_array(t) for t in model.proto.graph.initializer if t.name == node.input[1])
    own = helper.make_node("Conv", ["x", "w"], ["y"], name=layer.name)
    own.attribute.extend(node.attribute)
    graph = helper.make_graph(
        [own], "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *shapes[node.input[0]][1:]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, *shapes[node.output[0]][1:]))],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    split = gs.import_onnx(whole)
    run_pass(SplitSums({layer.name: window}, 1.0), split)
    image = np.random.default_rng(SEED).standard_normal((1, *shapes[node.input[0]][1:])).astype(np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        paths = []
        for name, form in (("whole", whole), ("split", gs.export_onnx(split))):
            form.ir_version = whole.ir_version
            paths.append(Path(temporary) / f"{name}.onnx")
            onnx.save(form, paths[-1])
        return compare_runs(
            [partial(opened_run, p, image, 1, native=False) for p in paths], threads=1, budget_s=budget_s
        )


def _accuracy(
    prepared: Prepared, faster: Mapping[str, float], most: float, epochs: int, folder: Path
) -> Iterator[Mapping[str, object]]:
    """The network with its layers of at most that residual split, before and after training."""
    classes = class_set(0)
    recipe = Recipe(model=prepared.source.path, classes=classes, preprocess=CIFAR_PREPROCESS, target="portable")
    form = find_preprocess(recipe.preprocess, prepared.source)
    chosen = find_classes(recipe.classes, None, prepared.head.classes)
    answers = task_of(prepared.head, chosen.indices)
    task = make_task(recipe, make_planner(recipe, prepared), answers)
    images, held_out = hold_out(
        open_images(CifarImages(folder, "train", classes), chosen, None, form), HELD_OUT, seed=SEED
    )
    judged = open_images(CifarImages(folder, "test", classes), chosen, None, form)
    graph = prepared.model.graph()
    item = SplitSums(dict.fromkeys(faster, WINDOWS[0]), most)
    run_pass(item, graph)
    model = prepared.model.with_graph(graph)
    macs = described(prepared.source, prepared.simplified, prepared.size, prepared.asked, prepared.task).macs
    saved = sum(
        layer.macs * (1 - each.share) for layer in prepared.layers for each in item.split if each.node == layer.name
    )
    teacher, module = to_torch(prepared.model), to_torch(model)
    reestimate(module, images, batch_size=BATCH)
    for told in ("none", f"{epochs} epochs"):
        if told != "none":
            torch.manual_seed(SEED)
            training, _ = training_for(
                copy.deepcopy(teacher), images, held_out, task, epochs, batch_size=BATCH, seed=SEED
            )
            train_narrow(module, teacher, images, task, training, {})
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "split.onnx"
            save(write_back(copy.deepcopy(module), model), path)
            found = compare_on((open_stock(recipe.model), open_stock(path)), (answers, answers), judged)
        untouched, right = (counts.right_restricted for counts in found.counts)
        row = {
            "most residual": most, "layers split": len(item.split), "of": len(faster),
            "share of MACs": 1 - saved / macs, "training": told, "untouched": untouched, "right": right,
        }  # fmt: skip
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
