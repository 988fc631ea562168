"""Dynamic inference: what images of the user's classes that leave early save, and what it costs in answers.

python -m benchmarks.early_exit [--budget-s 4] [--block 4 --block 6]

A head on the pooled features behind a block of resnet18w32_cifar100 knows the ten classes of set 0; where it is surer
than a threshold, an ONNX `If` takes its answer and skips the blocks behind. Heads learn from the training images, and
are judged with the network on 1,000 test images. Time: one image at a time, stock ONNX Runtime, the mean over the test
images as they leave or go on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from benchmarks.real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from benchmarks.record import record
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.words import find_classes, find_preprocess
from crisp_onnx.bridge import GraphModule, to_batch, to_torch
from crisp_onnx.data import Images, hold_out, open_images
from crisp_onnx.model import Model, save
from crisp_onnx.passes import run_passes
from crisp_onnx.passes.fold_batch_norm import FoldBatchNorm
from crisp_onnx.recover.features import block_ends
from crisp_onnx.runtime.latency import compare_runs, opened_run, seeded_input

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
NEVER, ALWAYS = 2.0, -1.0
ABSENT = -100.0
"""The logit that a head gives classes which it does not know."""
PROVEN_AT = 0.9
BATCH, HELD_OUT = 64, 0.1
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Exit:
    """`tensor`: whose channels' means the head reads. `weight` (outputs, C), `bias` (outputs,)."""

    tensor: str
    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Seen:
    """Of n images: pooled features (n, C) by tensor, the network's logits (n, outputs), labels (n,)."""

    features: Mapping[str, Floats]
    logits: Floats
    labels: npt.NDArray[np.int64]


@click.command()
@click.option("--budget-s", default=4.0, show_default=True, help="Seconds an exit.")
@click.option("--block", "blocks", multiple=True, type=int, default=(4, 5, 6, 7), help="Exit behind this block.")
def main(budget_s: float, blocks: Sequence[int]) -> None:
    """Measure, print and write the table."""
    folder, classes = data_folder(), class_set(0)
    prepared = prepare(folder / "models" / RESNET)
    chosen = find_classes(classes, None, prepared.head.classes)
    form = find_preprocess(CIFAR_PREPROCESS, prepared.source)
    module = to_torch(prepared.model)
    ends = {number: block_ends(module)[number - 1] for number in blocks}
    train, test = (open_images(CifarImages(folder, part, classes), chosen, None, form) for part in ("train", "test"))
    own, judged = hold_out(train, HELD_OUT, seed=0)
    learnt, held_out, shown = (seen(module, images, tuple(ends.values())) for images in (own, judged, test))
    rows = [
        row
        for number, tensor in ends.items()
        for row in _rows(number, exit_at(tensor, learnt, held_out, classes), prepared, shown, test, budget_s)
    ]
    record(
        "early_exit", "An exit for images that a small head is sure of", rows,
        notes=[
            "resnet18w32_cifar100, ten classes (set 0), 1,000 test images, logits restricted to the classes. One "
            "thread, one image at a time, stock ONNX Runtime; BatchNorm folded on both sides.",
            "'MACs before': share of the network's that every image takes. 'mean ms': over the test images; an image "
            "that goes on takes the time of the whole network, of the head and of the If.",
        ],
    )  # fmt: skip


def seen(module: GraphModule, images: Images, tensors: Sequence[str]) -> Seen:
    """What the network makes of images."""
    names = (*tensors, module.output_names[0])
    parts: list[list[npt.NDArray[np.generic]]] = [[] for _ in (*names, "labels")]
    module.eval()
    with torch.no_grad():
        for inputs, labels in images.batches(BATCH):
            found = module.run({module.input_names[0]: to_batch(inputs, torch.device("cpu"))}, names)
            for place, tensor in enumerate(tensors):
                parts[place].append(found[tensor].mean((2, 3)).numpy())
            parts[-2].append(found[names[-1]].numpy())
            parts[-1].append(np.asarray(labels))
    *features, logits, every = (np.concatenate(part) for part in parts)
    return Seen(dict(zip(tensors, features, strict=True)), logits, every)


def exit_at(tensor: str, learnt: Seen, held_out: Seen, classes: Sequence[int]) -> Exit:
    """A linear head by logistic regression, with the decay that answers held-out images best."""
    mean, spread = learnt.features[tensor].mean(0), learnt.features[tensor].std(0) + 1e-6
    x, held = (torch.from_numpy((one.features[tensor] - mean) / spread) for one in (learnt, held_out))
    y, truth = (torch.from_numpy(np.searchsorted(sorted(classes), one.labels)) for one in (learnt, held_out))
    heads = [_fitted(x, y, len(classes), decay) for decay in DECAYS]
    weight, bias = min(heads, key=lambda head: float(functional.cross_entropy(held @ head[0].T + head[1], truth)))
    outputs = learnt.logits.shape[1]
    full = np.zeros((outputs, x.shape[1]), np.float32), np.full(outputs, ABSENT, np.float32)
    full[0][sorted(classes)] = weight.numpy() / spread
    full[1][sorted(classes)] = bias.numpy() - (weight.numpy() / spread) @ mean
    return Exit(tensor, *full)


def _fitted(x: Tensor, y: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weight (classes, C) and bias (classes,) of the least loss."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def step() -> float:
        solver.zero_grad()
        loss = functional.cross_entropy(x @ weight.T + bias, y) + decay / 2 * weight.square().sum()
        loss.backward()
        return float(loss.detach())

    solver.step(step)
    return weight.detach(), bias.detach()


def with_exit(model: Model, way_out: Exit, threshold: float) -> onnx.ModelProto:
    """The model with an `If` that skips all behind the exit's tensor where its head is surer than the threshold.

    For one image at a time.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph, out = proto.graph, proto.graph.output[0]
    before = _led_to(graph, way_out.tensor)
    first = [node for node in graph.node if set(node.output) & before]
    behind = [node for node in graph.node if not set(node.output) & before]
    for node in behind:
        node.output[:] = ["whole" if name == out.name else name for name in node.output]
    read = {name for node in first for name in node.input}
    own = [tensor for tensor in graph.initializer if tensor.name not in read]
    shared = [tensor for tensor in graph.initializer if tensor.name in read]
    head = [
        helper.make_node("GlobalAveragePool", [way_out.tensor], ["exit_pooled"]),
        helper.make_node("Flatten", ["exit_pooled"], ["exit_features"]),
        helper.make_node("Gemm", ["exit_features", "exit_weight", "exit_bias"], ["exit_logits"], transB=1),
        helper.make_node("Softmax", ["exit_logits"], ["exit_shares"], axis=1),
        helper.make_node("ReduceMax", ["exit_shares"], ["exit_surest"], keepdims=0),
        helper.make_node("Greater", ["exit_surest", "exit_threshold"], ["exit_sure"]),
    ]
    leaving = helper.make_graph(
        [helper.make_node("Identity", ["exit_logits"], ["early"])], "leave", [], [_like(out, "early")]
    )
    staying = helper.make_graph(behind, "stay", [], [_like(out, "whole")], own)
    choice = helper.make_node("If", ["exit_sure"], [out.name], then_branch=leaving, else_branch=staying)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend([*first, *head, choice])
    graph.initializer.extend(shared)
    graph.initializer.append(numpy_helper.from_array(way_out.weight, "exit_weight"))
    graph.initializer.append(numpy_helper.from_array(way_out.bias, "exit_bias"))
    graph.initializer.append(numpy_helper.from_array(np.float32(threshold), "exit_threshold"))
    onnx.checker.check_model(proto)
    return proto


def _led_to(graph: onnx.GraphProto, tensor: str) -> set[str]:
    """The tensors that are computed on the way to one, and it."""
    found, writers = {tensor}, {name: node for node in graph.node for name in node.output}
    waiting = [tensor]
    while waiting:
        node = writers.get(waiting.pop())
        for name in () if node is None else node.input:
            if name in writers and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _like(out: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    found = onnx.ValueInfoProto()
    found.CopyFrom(out)
    found.name = name
    return found


def _rows(
    number: int, way_out: Exit, prepared: Prepared, shown: Seen, test: Images, budget_s: float
) -> Iterator[Mapping[str, object]]:
    graph = prepared.model.graph()
    run_passes((FoldBatchNorm(),), graph)
    model = prepared.model.with_graph(graph)
    before = _led_to(prepared.model.proto.graph, way_out.tensor)
    written = {node.name: node.output[0] for node in prepared.model.proto.graph.node}
    early = sum(layer.macs for layer in prepared.layers if written[layer.name] in before) / prepared.macs
    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary) / name for name in ("whole.onnx", "leaves.onnx", "stays.onnx", "proven.onnx")]
        save(model, paths[0])
        for path, threshold in zip(paths[1:], (ALWAYS, NEVER, PROVEN_AT), strict=True):
            onnx.save(with_exit(model, way_out, threshold), path)
        image = seeded_input(prepared.source.input, batch=1, size=prepared.size)
        timing = compare_runs(
            [partial(opened_run, p, image, 1, native=False) for p in paths[:3]], threads=1, budget_s=budget_s
        )
        proven = _run(paths[3], test)
    whole, leaves, stays = (side.median for side in timing.sides_ms)
    logits = shown.features[way_out.tensor] @ way_out.weight.T + way_out.bias
    surest = torch.softmax(torch.from_numpy(logits), 1).max(1).values.numpy()
    classes = np.array(sorted(set(shown.labels.tolist())))
    _require_alike(proven, np.where((surest > PROVEN_AT)[:, None], logits, shown.logits), surest)
    for threshold in (NEVER, *THRESHOLDS[::-1], ALWAYS):
        sure = surest > threshold
        answered = classes[np.where(sure[:, None], logits, shown.logits)[:, classes].argmax(1)]
        mean = float(np.where(sure, leaves, stays).mean())
        yield {
            "behind block": number,
            "MACs before": early,
            "surer than": {NEVER: "never", ALWAYS: "always"}.get(threshold, f"{threshold:g}"),
            "leave early": f"{100 * sure.mean():.1f} %",
            "right": int((answered == shown.labels).sum()),
            "mean ms": mean,
            "times as fast as the whole network": whole / mean,
            "noisy": timing.noisy,
        }


def _run(path: Path, images: Images) -> Floats:
    """What the model answers to images, one at a time."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: inputs})[0] for inputs, _ in images.batches(1)])


def _require_alike(found: Floats, wanted: Floats, surest: Floats) -> None:
    """The graph with the If answers as its two parts do, but for images at the very threshold."""
    clear = np.abs(surest - PROVEN_AT) > 1e-4
    worst = float(np.abs(found - wanted)[clear].max() / np.abs(wanted[clear & (wanted > ABSENT).all(1)]).max(initial=1))
    if worst > 1e-3:
        raise SystemExit(f"The graph with an exit answers otherwise than its parts: by {worst:.1e}.")


if __name__ == "__main__":
    main()
