"""From the graph of a file to the plain one that every stage works on, in steps, and proof that both answer alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isinf
from typing import TypeAlias

import onnx_graphsurgeon as gs

from crisp_onnx.api.trials import TOLERANCE, Trial, other_shapes, try_out, worst_difference
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import Model, Size, upgrade, with_value_info
from crisp_onnx.model.functions import inlined
from crisp_onnx.model.opset import MIN_OPSET
from crisp_onnx.model.shapes import facts, inform
from crisp_onnx.model.tensors import stored_types
from crisp_onnx.passes import SIMPLIFY, Declined, FreeBatch, Pass, PlainFloats, run_pass

log = logging.getLogger(__name__)
TOLERANCE_16_BIT = 1e-2
HALVES = ("FLOAT16", "BFLOAT16")
Stepped: TypeAlias = tuple[Model, tuple[Declined, ...]]


@dataclass(frozen=True)
class _Step:
    """One rewriting, by the name that an error gives it; `fault` is that error, `advice` its last sentence."""

    name: str
    run: Callable[[Model], Stepped]
    fault: type[CrispError] = Defect
    advice: str = "Please report it with the model."


@dataclass(frozen=True)
class Simplified:
    """`model` as the stages want it, every shape in it a fact; `declined`: what the passes left as it was.

    `batch`: the number of images that it answers at a time; None for any. `notes`: what the user should know of it.
    """

    model: Model
    declined: tuple[Declined, ...]
    batch: int | None
    notes: tuple[str, ...] = ()


def simplify(source: Model, *, one_image: bool = False) -> Simplified:
    """The plain form of the source, not compared with it yet. `one_image`: an open batch is answered image by image.

    Raises:
        CrispError: the model cannot be converted to an opset that the hybrid operators can be written in.
    """
    model, declined = source, list[Declined]()
    for step in _steps(one_image=one_image):
        model, found = step.run(model)
        declined += found
    shape = source.input.shape
    return Simplified(with_value_info(model), tuple(declined), shape[0] if shape else None, _notes(source))


def require_same_answers(source: Model, simplified: Simplified, *, size: Size) -> Simplified:
    """`simplified`, compared with the source in ONNX Runtime; in a form for any batch, where only that is amiss.

    They answer seeded images of `size`, and of a second size where the file leaves sides open.

    Raises:
        Defect: they differ by more than 1e-4 of the largest value; the message names the step that made it so.
        CrispError: ONNX Runtime cannot run the source, or the source answers one image in several ways.
    """
    steps = list(_steps())
    if _has_16_bits(source):
        # How sums of 16-bit numbers are rounded is the runtime's choice; every later step is held against float32.
        last = next(place for place, step in enumerate(steps) if step.name == PlainFloats.name) + 1
        trials = try_out(source, size)
        source = _compared(source, steps[:last], None, trials.single, TOLERANCE_16_BIT)
        steps = steps[last:]
    trials = try_out(source, size)
    _compared(source, steps, simplified.model, trials.single if trials.one_image else trials.every, TOLERANCE)
    notes = (*simplified.notes, *_reshaped(source, simplified.model, trials.single))
    if not trials.one_image:
        return replace(simplified, notes=notes)
    what = f"{source.path.name} leaves its batch open, but answers one image at a time"
    freed = simplify(source, one_image=True)
    if worst_difference(freed.model, trials.every) <= TOLERANCE:
        note = f"{what}: a Reshape inside names a batch of one. The result takes any batch."
        return replace(freed, notes=(*notes, note))
    note = f"{what}, so it is treated as a file whose batch is fixed at one."
    return replace(simplified, batch=1, notes=(*notes, note))


def _compared(
    source: Model, steps: Sequence[_Step], stepped: Model | None, trials: Sequence[Trial], tolerance: float
) -> Model:
    """`stepped`, what the steps make of the source (run here where it is None), with the source's answers."""
    if stepped is None:
        stepped = source
        for step in steps:
            stepped, _ = step.run(stepped)
    worst = worst_difference(stepped, trials)
    log.debug("the simplified graph differs from %s by %.1e on %d inputs", source.path.name, worst, len(trials))
    if worst <= tolerance:
        return stepped
    model = source
    for step in steps:
        model, _ = step.run(model)
        worst = worst_difference(model, trials)
        if worst > tolerance:
            how = "no longer run" if isinf(worst) else f"differ by {worst:.1e} (relative)"
            raise step.fault(
                f"The answers of {source.path.name} {how} after the step {step.name!r} that makes its graph plain, so "
                f"it cannot be compressed. {step.advice}"
            )
    raise Defect(f"The simplified graph of {source.path.name} differs from it by {worst:.1e}, but no step alone does.")


def _steps(*, one_image: bool = False) -> Iterator[_Step]:
    yield _Step("local functions", lambda model: (inlined(model), ()), CrispError, "Export the model without them.")
    yield _Step("opset conversion", lambda model: (upgrade(model), ()), CrispError,
                f"Export the model again at opset {MIN_OPSET} or newer.")  # fmt: skip
    informed: list[tuple[Model, gs.Graph]] = []
    for item in (*SIMPLIFY, FreeBatch(one_image=one_image)):
        yield _Step(item.name, partial(_passed, item, informed))


def _passed(item: Pass, informed: list[tuple[Model, gs.Graph]], model: Model) -> Stepped:
    """`informed`: the model that the step before left as it was, with its graph; at most one."""
    graph = informed.pop()[1] if informed and informed[-1][0] is model else None
    if graph is None:
        graph = model.graph()
        inform(graph, facts(model))
    result = run_pass(item, graph)
    if result.changed:
        return model.with_graph(graph), result.declined
    informed[:] = [(model, graph)]
    return model, result.declined


def _reshaped(source: Model, plain: Model, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Outputs that lose the axis of a single image in the file and keep it in the plain form."""
    found = other_shapes(plain, trials[0]) if trials else {}
    return tuple(
        f"Output {name!r} of {source.path.name} is {list(theirs)} for a single image, because a Squeeze without axes "
        f"takes its batch axis away; in the result it is {list(own)}, as for any other batch."
        for name, (theirs, own) in found.items()
    )


def _has_16_bits(source: Model) -> bool:
    return any(kind in HALVES for kind in stored_types(source.proto))


def _notes(source: Model) -> tuple[str, ...]:
    """What the types of the stored weights mean for the result."""
    types = stored_types(source.proto)
    notes = [
        f"{types[kind]} tensors are stored as {kind.lower()}; they become float32 here and in the result{larger}."
        for kind, larger in (*((half, ", twice as large") for half in HALVES), ("DOUBLE", ""))
        if types[kind]
    ]
    stored = {tensor.name for tensor in source.proto.graph.initializer}
    count = sum(node.op_type == "DequantizeLinear" and node.input[0] in stored for node in source.proto.graph.node)
    if count:
        notes.append(
            f"{count} weights are stored as small whole numbers (DequantizeLinear). They become float32, four times as "
            "large, so the result may be larger than the file; compress the float model that they were made from."
        )
    return tuple(notes)
