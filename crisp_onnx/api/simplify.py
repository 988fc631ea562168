"""From the graph of a file to the plain one that every stage works on, in steps, and proof that both answer alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isinf
from typing import TypeAlias

from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import Model, Size, TensorSpec, upgrade, with_value_info
from crisp_onnx.model.answers import Array, Runner, open_model, reason_of, relative_difference, seeded_image
from crisp_onnx.model.opset import MIN_OPSET
from crisp_onnx.model.shapes import facts, inform
from crisp_onnx.passes import SIMPLIFY, Declined, Pass, run_passes

log = logging.getLogger(__name__)
TOLERANCE = 1e-4
OLDEST_OPSET_OF_RUNTIME = 7
OTHER_SIZES = (1, 32)
"""Pixels by which open sides are made larger for a second look: strides treat odd and even sides differently."""

Stepped: TypeAlias = tuple[Model, tuple[Declined, ...]]


@dataclass(frozen=True)
class _Step:
    """One rewriting, by the name that an error gives it; `fault` is that error, `advice` its last sentence."""

    name: str
    run: Callable[[Model], Stepped]
    fault: type[CrispError] = Defect
    advice: str = "Please report it with the model."


@dataclass(frozen=True)
class _Trial:
    """An input, and what the source answers to it."""

    image: Array
    answers: dict[str, Array]


def simplify(source: Model) -> Stepped:
    """The model as the stages want it, every shape in it a fact, and what its passes left as it was.

    Raises:
        CrispError: the model cannot be converted to an opset that the hybrid operators can be written in.
    """
    model, declined = source, list[Declined]()
    for step in _steps():
        model, found = step.run(model)
        declined += found
    return with_value_info(model), tuple(declined)


def require_same_answers(source: Model, simplified: Model, *, size: Size) -> None:
    """Compare both in ONNX Runtime on seeded images of `size`, and of a second one where the file leaves sides open.

    Raises:
        Defect: they differ by more than 1e-4 of the largest value; the message names the step that made it so.
        CrispError: ONNX Runtime cannot run the source, or the source answers one image in several ways.
    """
    trials = _trials(source, size)
    worst = _worst(simplified, trials)
    log.debug("the simplified graph differs from %s by %.1e on %d inputs", source.path.name, worst, len(trials))
    if worst <= TOLERANCE:
        return
    model = source
    for step in _steps():
        model, _ = step.run(model)
        worst = _worst(model, trials)
        if worst > TOLERANCE:
            how = "no longer run" if isinf(worst) else f"differ by {worst:.1e} (relative)"
            raise step.fault(
                f"The answers of {source.path.name} {how} after the step {step.name!r} that makes its graph plain, so "
                f"it cannot be compressed. {step.advice}"
            )
    raise Defect(f"The simplified graph of {source.path.name} differs from it by {worst:.1e}, but no step alone does.")


def _steps() -> Iterator[_Step]:
    yield _Step("opset conversion", lambda model: (upgrade(model), ()), CrispError,
                f"Export the model again at opset {MIN_OPSET} or newer.")  # fmt: skip
    for item in SIMPLIFY:
        yield _Step(item.name, partial(_passed, item))


def _passed(item: Pass, model: Model) -> Stepped:
    graph = model.graph()
    inform(graph, facts(model))
    declined = run_passes((item,), graph)
    return model.with_graph(graph), declined


def _trials(source: Model, size: Size) -> tuple[_Trial, ...]:
    """Seeded inputs with the source's answers; none where it is too old for ONNX Runtime."""
    try:
        runner = open_model(source)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        if source.opset < OLDEST_OPSET_OF_RUNTIME:
            log.warning("%s has opset %d, which does not run here, so its conversion is not checked.",
                        source.path.name, source.opset)  # fmt: skip
            return ()
        raise CrispError(f"ONNX Runtime cannot open {source.path}: {reason_of(error)}.") from error
    spec = source.input
    trials = [trial for images in _images(spec, size) if (trial := _first_that_runs(runner, spec.name, images))]
    if not trials:
        shape = "x".join(map(str, spec.fixed(1, size)))
        try:
            runner.run({spec.name: seeded_image(spec, 1, size)})
        except Exception as error:  # as above
            raise CrispError(
                f"ONNX Runtime cannot run {source.path} on an input of {shape}: {reason_of(error)}."
            ) from error
    again = _first_that_runs(runner, spec.name, [trials[0].image])
    if again is None or _difference(again.answers, trials[0].answers) > TOLERANCE:
        raise CrispError(
            f"{source.path.name} answers the same input differently from run to run, so it cannot be compared with "
            "another model. Export it for inference: without random numbers, and with Dropout out of training mode."
        )
    return tuple(trials)


def _images(spec: TensorSpec, size: Size) -> Iterator[list[Array]]:
    """Two kinds of input, the second only where sides are open; of each several, the first that runs will do."""
    yield [seeded_image(spec, batch, size) for batch in (2, 1)]
    larger = [(size[0] + more, size[1] + more) for more in OTHER_SIZES]
    if spec.fixed(1, larger[0]) != spec.fixed(1, size):
        yield [seeded_image(spec, 1, other, seed=1) for other in larger]


def _first_that_runs(runner: Runner, name: str, images: Sequence[Array]) -> _Trial | None:
    for image in images:
        try:
            return _Trial(image, runner.run({name: image}))
        except Exception as error:  # onnxruntime raises a type per error code, without a common base
            log.debug("the model does not run on an input of %s: %s", image.shape, reason_of(error))
    return None


def _worst(model: Model, trials: tuple[_Trial, ...]) -> float:
    """The largest difference to the source; infinite where the model does not run."""
    try:
        runner, name = open_model(model), model.input.name
        return max((_difference(runner.run({name: t.image}), t.answers) for t in trials), default=0.0)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        log.debug("the rewritten %s does not run: %s", model.path.name, reason_of(error))
        return float("inf")


def _difference(ours: dict[str, Array], theirs: dict[str, Array]) -> float:
    """Over all outputs; infinite where one is missing."""
    if ours.keys() != theirs.keys():
        return float("inf")
    return max((relative_difference(ours[name], answer) for name, answer in theirs.items()), default=0.0)
