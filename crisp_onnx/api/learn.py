"""Cross to torch, score, choose masks, recover, and cross back: the part of `compress` that changes weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.bridge import GraphModule, compare_with_runtime, prepared_for, to_torch, usable_batch, write_back
from crisp_onnx.data import Classes, Images, Preprocess, hold_out
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Budget, Plan, check_keep_dense, choose, parse_pattern, reason_to_stay_dense
from crisp_onnx.model import Model
from crisp_onnx.passes import InsertBatchNorm, run_passes
from crisp_onnx.recipe import DEFAULT_SPARSITY, Recipe
from crisp_onnx.recover import Task, Training, mirror_safe, output_moments, plan_from, put_masks, recover, reestimate
from crisp_onnx.saliency import collect, criterion_named

log = logging.getLogger(__name__)

BATCH = 64
BATCH_OF_LARGE_IMAGES, LARGE_PIXELS = 32, 128 * 128
HELD_OUT = 0.1
EPOCHS_WITH_IMAGES = 20
RATE, RATE_WITHOUT_BATCH_NORM = 0.05, 0.005


@dataclass(frozen=True)
class Learned:
    """`model`: the simplified graph with trained, masked weights. `held_out`: images kept back from training."""

    model: Model
    plan: Plan
    images: Images
    held_out: Images | None
    epochs: int
    notes: tuple[str, ...]


def budget_of(recipe: Recipe) -> Budget:
    """The recipe's budget, 80 % sparsity when it names none."""
    if recipe.macs is not None:
        return Budget(kept_macs=recipe.macs)
    return Budget(kept_weights=1 - (DEFAULT_SPARSITY if recipe.sparsity is None else recipe.sparsity))


def learn(
    recipe: Recipe,
    prepared: Prepared,
    *,
    classes: Classes,
    preprocess: Preprocess,
    given: Images | None,
    watch: Stopwatch,
) -> Learned:
    """Compress the weights for `classes`; without `given` images, synthesise some from the model itself.

    Raises:
        CrispError: nothing is prunable, the budget cannot be met, an operator has no bridge, or no such device.
    """
    task = make_task(recipe, prepared, classes)
    torch.manual_seed(recipe.seed)
    device = find_device(recipe.device)
    notes: list[str] = [preprocess.assumed.capitalize() + "."] if preprocess.assumed else []
    with watch("bridge"):
        model, module = prepared.model, to_torch(prepared.model)
        compare_with_runtime(module, model, size=preprocess.size[0])
        prepared_for(device, module)
    large = preprocess.size[0] * preprocess.size[1] > LARGE_PIXELS
    wanted = BATCH_OF_LARGE_IMAGES if large else BATCH
    batch = usable_batch(module, model.input, wanted, size=preprocess.size[0])
    images, held_out = given, None
    if images is None:
        from crisp_onnx.data.synthesis import synthesise

        with watch("synthesis"):
            images = synthesise(module, model, classes, preprocess, seed=recipe.seed)
        notes.append(
            f"No images were given: {len(images)} were synthesised from the model itself. Saliency follows what the "
            "model believes of its classes, and accuracy is not measured. Pass --data to learn from real images."
        )
    elif _can_hold_out(images):
        images, held_out = hold_out(images, HELD_OUT, seed=recipe.seed)
    notes += [f"Left out of {images.source}: {reason}." for reason in images.left_out]
    epochs = recipe.epochs if recipe.epochs is not None else (EPOCHS_WITH_IMAGES if given is not None else 0)
    if epochs and batch < 2:
        notes.append("The file fixes the batch at one image, so it is not fine-tuned. Export it with a dynamic batch.")
        epochs = 0
    if "BatchNormalization" not in {node.op for node in module.nodes}:
        with watch("statistics"):
            model, module = _with_batch_norm(model, module, images, classifier=prepared.classifier, batch=batch)
    chosen = [layer for layer in prepared.layers if not task.dense_reasons.get(layer.name)]
    with watch("saliency"):
        statistics = collect(
            task.criterion, module, model, chosen, images=images, classes=classes.indices,
            batch_size=batch, probabilities=prepared.probabilities, seed=recipe.seed,
        )  # fmt: skip
    with watch("masks"):
        plan = plan_from(module, statistics, task, task.budget)
    if epochs:
        nhwc = preprocess.layout == "NHWC"
        flip = mirror_safe(module, held_out or images, task, batch_size=batch, channels_last=nhwc)
        notes.append(f"Recovery {'mirrors' if flip else 'does not mirror'} images: the model's answers decide that.")
        with watch("recovery"):
            training = Training(
                epochs, min(batch, max(2, len(images) // 4)), RATE if module.statistics else RATE_WITHOUT_BATCH_NORM,
                flip=flip, channels_last_input=nhwc, seed=recipe.seed,
            )  # fmt: skip
            plan = recover(module, images, statistics, task, training)
    put_masks(module, plan)
    if not epochs and batch > 1:
        with watch("statistics"):
            reestimate(module, images, batch_size=batch)
    module.eval()
    return Learned(write_back(module.cpu(), model), plan, images, held_out, epochs, tuple(notes))


def make_task(recipe: Recipe, prepared: Prepared, classes: Classes) -> Task:
    """What masks are chosen for. Cheap, and finds most faults of the options before any long stage starts."""
    pattern = parse_pattern(recipe.pattern, block=recipe.block, vector_rows=recipe.vector_rows)
    check_keep_dense(recipe.keep_dense, prepared.layers)
    reasons = {
        layer.name: reason_to_stay_dense(layer, pattern, keep_dense=recipe.keep_dense, classifier=prepared.classifier)
        for layer in prepared.layers
    }
    if all(reasons.values()):
        listed = "; ".join(sorted(set(reasons.values()))) or "it holds no Conv, Gemm or MatMul with a stored weight"
        raise CrispError(f"No prunable layer in {recipe.model.name}: {listed}. `crisp-onnx check` shows every layer.")
    budget = budget_of(recipe)
    # A dry run under a saliency that prefers nothing: a budget that cannot be met is refused now, not after an hour.
    flat = {layer.weight: np.ones(layer.shape, np.float32) for layer in prepared.layers if not reasons[layer.name]}
    choose(flat, prepared.layers, pattern, budget, dense_reasons=reasons)
    return Task(
        prepared.layers, pattern, budget, reasons, criterion_named(recipe.saliency), classes.indices,
        all_outputs=recipe.head == "keep", probabilities=prepared.probabilities,
    )  # fmt: skip


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        CrispError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CrispError(f"--device {name} is not to be had here: {reason}. Use --device cpu.") from None
    return device


def _can_hold_out(images: Images) -> bool:
    return images.labels is None or bool(np.unique(images.labels, return_counts=True)[1].min() > 1)


def _with_batch_norm(
    model: Model, module: GraphModule, images: Images, *, classifier: str, batch: int
) -> tuple[Model, GraphModule]:
    """The same function with an identity BatchNorm behind every convolution but the classifier."""
    graph = model.graph()
    convolutions = [node for node in graph.nodes if node.op == "Conv" and node.name != classifier]
    outputs = {node.name: node.outputs[0].name for node in convolutions}
    if not outputs:
        return model, module
    moments = output_moments(module, outputs, images, batch_size=min(batch, 16))
    run_passes((InsertBatchNorm(moments),), graph, Plan())
    extended = model.with_graph(graph)
    return extended, prepared_for(next(module.parameters()).device, to_torch(extended))
