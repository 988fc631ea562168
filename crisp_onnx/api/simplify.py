"""From the graph of a file to the plain one that every stage works on, in steps, and proof that both answer alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import isinf
from typing import TypeAlias

from crisp_onnx.api.trials import TOLERANCE, Trial, try_out, worst_difference
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import Model, Size, upgrade, with_value_info
from crisp_onnx.model.functions import inlined
from crisp_onnx.model.opset import MIN_OPSET
from crisp_onnx.model.shapes import facts, inform
from crisp_onnx.passes import SIMPLIFY, Declined, FreeBatch, Pass, run_passes

log = logging.getLogger(__name__)
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
    return Simplified(with_value_info(model), tuple(declined), shape[0] if shape else None)


def require_same_answers(source: Model, simplified: Simplified, *, size: Size) -> Simplified:
    """`simplified`, compared with the source in ONNX Runtime; in a form for any batch, where only that is amiss.

    They answer seeded images of `size`, and of a second size where the file leaves sides open.

    Raises:
        Defect: they differ by more than 1e-4 of the largest value; the message names the step that made it so.
        CrispError: ONNX Runtime cannot run the source, or the source answers one image in several ways.
    """
    trials = try_out(source, size)
    if not trials.one_image:
        _compare(source, simplified.model, trials.every)
        return simplified
    _compare(source, simplified.model, trials.single)
    what = f"{source.path.name} leaves its batch open, but answers one image at a time"
    freed = simplify(source, one_image=True)
    if worst_difference(freed.model, trials.every) <= TOLERANCE:
        return replace(freed, notes=(f"{what}: a Reshape inside names a batch of one. The result takes any batch.",))
    return replace(simplified, batch=1, notes=(f"{what}, so it is treated as a file whose batch is fixed at one.",))


def _compare(source: Model, simplified: Model, trials: tuple[Trial, ...]) -> None:
    worst = worst_difference(simplified, trials)
    log.debug("the simplified graph differs from %s by %.1e on %d inputs", source.path.name, worst, len(trials))
    if worst <= TOLERANCE:
        return
    model = source
    for step in _steps():
        model, _ = step.run(model)
        worst = worst_difference(model, trials)
        if worst > TOLERANCE:
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
    for item in (*SIMPLIFY, FreeBatch(one_image=one_image)):
        yield _Step(item.name, partial(_passed, item))


def _passed(item: Pass, model: Model) -> Stepped:
    graph = model.graph()
    inform(graph, facts(model))
    declined = run_passes((item,), graph)
    return model.with_graph(graph), declined
