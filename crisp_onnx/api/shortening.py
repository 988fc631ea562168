"""`blocks`: how much each residual block of a model does for the user's images, and the model without some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crisp_onnx.api.dropped_blocks import blocks_stamp
from crisp_onnx.api.question import Question, read_question
from crisp_onnx.channels.similarity import linear_cka
from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError
from crisp_onnx.groups.blocks import ResidualBlock, residual_blocks
from crisp_onnx.model import Model, load, save
from crisp_onnx.model.answers import open_model
from crisp_onnx.model.macs import images_in, macs_of
from crisp_onnx.passes import DropBlocks, run_passes
from crisp_onnx.recipe import Recipe, input_files
from crisp_onnx.report.findings import BlockFound, BlocksFound
from crisp_onnx.writing import keep_inputs, require_name, require_place

MOST_IMAGES, BATCH = 128, 8
MOST_FEATURES = 4096
ANOTHER = "Choose another name with --output."
Floats = npt.NDArray[np.floating]


def blocks(recipe: Recipe, *, drop: int = 0, output: Path | None = None) -> BlocksFound:
    """Compare what each residual block reads and gives, and what the answers are without it, on the recipe's images.

    Asked are at most 128 of `recipe.data`, of which no labels are needed. `drop`: so many blocks, those without which
    the answers move least, are left out of the model that is written to `output`; they are chosen once, each by itself.

    Raises:
        CrispError: the input or an option is at fault, or the model has fewer blocks than `drop`.
    """
    if recipe.data is None:
        raise CrispError("Blocks are judged on images. Give some with --data.")
    if (drop > 0) != (output is not None):
        raise CrispError("--drop-blocks N and --output go together: the model without N blocks is written there.")
    source = load(recipe.model)
    if output is not None:
        keep_inputs([output], (*input_files(recipe), *source.data_files), ANOTHER)
        require_name(output, (".onnx",), "a model")
        require_place(output)
    asked = read_question(recipe, source, recipe.data, None)
    prepared = asked.prepared
    found = residual_blocks(prepared.model.graph(), prepared.shapes)
    if not found:
        raise CrispError(f"{recipe.model.name} has no residual block: no sum of a tensor and of a branch out of it.")
    if drop > len(found):
        raise CrispError(f"{recipe.model.name} has {len(found)} residual blocks, so {drop} cannot go.")
    images = _some(asked)
    judged = _judged(prepared.model, prepared.shapes, found, images, asked.answers.logits)
    least = sorted(range(len(found)), key=lambda place: judged[place].moved)[:drop]
    moved, notes = 0.0, (_judged_on(len(images), asked.images),)
    if output is not None:
        short = without(prepared.model, [found[place] for place in sorted(least)])
        moved = _moved(*(_answers(model, images, [asked.answers.logits])[0] for model in (prepared.model, short)))
        save(short.with_metadata(blocks_stamp(source.metadata, [judged[place] for place in sorted(least)])), output)
    gone = {found[place].name for place in least}
    listed = tuple(
        BlockFound(item.name, item.nodes, item.macs, item.cka, item.moved, dropped=item.name in gone) for item in judged
    )
    return BlocksFound(recipe.model, listed, prepared.macs, output, moved, notes)


def without(model: Model, gone: Sequence[ResidualBlock]) -> Model:
    """The model without these blocks."""
    graph = model.graph()
    run_passes((DropBlocks(gone),), graph)
    return model.with_graph(graph)


def _judged_on(count: int, images: Images | None) -> str:
    every = count if images is None else len(images)
    source = "" if images is None else f" of {images.source}"
    if count == every:
        return f"Judged on all {count} images{source}."
    return f"Judged on {count} of the {every} images{source}, spread evenly: more are not asked."


def _some(asked: Question) -> Images:
    images = asked.images
    if images is None:
        raise CrispError("Blocks are judged on images. Give some with --data.")
    return images.subset(np.linspace(0, len(images) - 1, min(MOST_IMAGES, len(images))).round().astype(np.int64))


def _judged(
    model: Model, shapes: dict[str, tuple[int, ...]], found: Sequence[ResidualBlock], images: Images, logits: str
) -> list[BlockFound]:
    """A finding for each block."""
    tensors = list(dict.fromkeys(name for block in found for name in (block.start, block.end)))
    answers, *features = _answers(model, images, [logits, *tensors])
    seen = dict(zip(tensors, features, strict=True))
    nodes = {node.name: node for node in model.graph().nodes}
    judged = []
    for block in found:
        macs = sum(macs_of(nodes[name], shapes) or 0 for name in block.nodes) // images_in(model, shapes)
        moved = _moved(answers, _answers(without(model, [block]), images, [logits])[0])
        cka = linear_cka(seen[block.start], seen[block.end])
        judged.append(BlockFound(block.name, block.nodes, macs, cka, moved))
    return judged


def _answers(model: Model, images: Images, names: Sequence[str]) -> list[Floats]:
    """Some elements (n, at most 4096) of each tensor, the same ones of tensors of one size."""
    runner, parts = open_model(model, names), [list[Floats]() for _ in names]
    batch = model.input.shape[0] if model.input.shape else None
    for inputs, _ in images.batches(batch or BATCH):
        missing = (batch or len(inputs)) - len(inputs)
        fed = np.concatenate([inputs, np.zeros((missing, *inputs.shape[1:]), inputs.dtype)])
        found = runner.run({model.input.name: fed}, names)
        for part, name in zip(parts, names, strict=True):
            rows = found[name].reshape(len(fed), -1)[: len(inputs)]
            part.append(rows[:, _places(rows.shape[1])])
    return [np.concatenate(part) for part in parts]


def _places(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)[:MOST_FEATURES]


def _moved(before: Floats, after: Floats) -> float:
    """The root mean square of what the answers move by, over their spread."""
    spread = float(np.square(before - before.mean(0)).mean())
    return float(np.sqrt(np.square(after - before).mean() / max(spread, 1e-30)))
