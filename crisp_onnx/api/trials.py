"""What a file answers to seeded images: the truth that every rewriting of its graph is held against."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, Size, TensorSpec
from crisp_onnx.model.answers import Array, Runner, as_array, open_model, relative_difference, seeded_image
from crisp_onnx.reading import reason

log = logging.getLogger(__name__)
TOLERANCE = 1e-4
OLDEST_OPSET_OF_RUNTIME = 7
OTHER_SIZES = (1, 32)
"""Pixels by which open sides are made larger for a second look: strides treat odd and even sides differently."""


@dataclass(frozen=True)
class Trial:
    """An input (n, ...), and the answers to it by output name."""

    image: Array
    answers: Mapping[str, Array]


@dataclass(frozen=True)
class Trials:
    """Inputs of one size, and of a second one where the file leaves sides open; none where nothing could be run.

    `pair`: two images, with the answers that each gets alone; None where the file fixes its batch. `one_image`: the
    file leaves its batch open, but does not answer the pair so.
    """

    single: tuple[Trial, ...] = ()
    pair: Trial | None = None
    one_image: bool = False

    @property
    def every(self) -> tuple[Trial, ...]:
        return self.single if self.pair is None else (*self.single, self.pair)


def try_out(source: Model, size: Size) -> Trials:
    """Run the source on seeded images of `size`.

    Raises:
        CrispError: ONNX Runtime cannot open or run it, or it answers one image in several ways.
    """
    try:
        runner = open_model(source)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        if source.opset < OLDEST_OPSET_OF_RUNTIME:
            log.warning("%s has opset %d, which does not run here, so its conversion is not checked.",
                        source.path.name, source.opset)  # fmt: skip
            return Trials()
        raise CrispError(f"ONNX Runtime cannot open {source.path}: {reason(error)}.") from error
    spec = source.input
    first, second = (_required(runner, source, seeded_image(spec, 1, size, seed=seed)) for seed in (0, 1))
    again = _required(runner, source, first.image)
    if difference(again.answers, first.answers) > TOLERANCE:
        raise CrispError(
            f"{source.path.name} answers the same input differently from run to run, so it cannot be compared with "
            "another model. Export it for inference: without random numbers, and with Dropout out of training mode."
        )
    larger = [_tried(runner, spec.name, image) for image in _larger(spec, size)]
    single = (first, *[trial for trial in larger if trial is not None][:1])
    if spec.shape and spec.shape[0] is not None:
        return Trials(single)
    pair = _pair(first, second)
    together = _tried(runner, spec.name, pair.image)
    return Trials(single, pair, together is None or difference(together.answers, pair.answers) > TOLERANCE)


@contextmanager
def no_fault_of(source: Model, size: Size) -> Iterator[None]:
    """What goes wrong inside is the file's fault where ONNX Runtime does not take the file either, and is said so.

    Raises:
        CrispError: something went wrong, and ONNX Runtime cannot open or run the source.
    """
    try:
        yield
    except CrispError:
        raise
    except Exception:
        try_out(source, size)
        raise


def worst_difference(model: Model, trials: Sequence[Trial]) -> float:
    """The largest difference of the model's answers to those of the trials; infinite where it does not run."""
    try:
        runner, name = open_model(model), model.input.name
        return max((difference(_answers(runner, name, t.image), t.answers) for t in trials), default=0.0)
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        log.debug("the rewritten %s does not run: %s", model.path.name, reason(error))
        return float("inf")


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Over all outputs, of the largest value; infinite where one is missing. Axes of length one do not count."""
    if ours.keys() != theirs.keys():
        return float("inf")
    pairs = ((as_array(ours[name]).squeeze(), as_array(answer).squeeze()) for name, answer in theirs.items())
    return max((relative_difference(own, their) for own, their in pairs), default=0.0)


def other_shapes(model: Model, trial: Trial) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Outputs whose shape the model gives otherwise than the trial has it, by name: the trial's and the model's."""
    ours = _answers(open_model(model), model.input.name, trial.image)
    pairs = {name: (np.shape(answer), np.shape(ours[name])) for name, answer in trial.answers.items()}
    return {name: (theirs, own) for name, (theirs, own) in pairs.items() if theirs != own}


def _answers(runner: Runner, name: str, image: Array) -> dict[str, Array]:
    """Every output, those that hold maps and sequences as the arrays of their values."""
    return {output: as_array(answer) for output, answer in runner.run({name: image}).items()}


def _required(runner: Runner, source: Model, image: Array) -> Trial:
    try:
        return Trial(image, _answers(runner, source.input.name, image))
    except Exception as error:  # onnxruntime raises a type per error code, without a common base
        shape = "x".join(map(str, image.shape))
        raise CrispError(f"ONNX Runtime cannot run {source.path} on an input of {shape}: {reason(error)}.") from error


def _tried(runner: Runner, name: str, image: Array) -> Trial | None:
    try:
        return Trial(image, _answers(runner, name, image))
    except Exception as error:  # as above
        log.debug("the model does not run on an input of %s: %s", image.shape, reason(error))
        return None


def _larger(spec: TensorSpec, size: Size) -> Iterator[Array]:
    """Images of other sizes, where the file leaves a side open; not every size suits every network."""
    sizes = [(size[0] + more, size[1] + more) for more in OTHER_SIZES]
    if spec.fixed(1, sizes[0]) != spec.fixed(1, size):
        yield from (seeded_image(spec, 1, other, seed=2) for other in sizes)


def _pair(first: Trial, second: Trial) -> Trial:
    """Both images as one batch, with the rows of the answers that each got alone."""
    answers = {}
    for name, answer in first.answers.items():
        rows = [one.reshape(1, *one.squeeze().shape) for one in (answer, second.answers[name])]
        answers[name] = np.concatenate(rows) if rows[0].shape == rows[1].shape else rows[0]
    return Trial(np.concatenate([first.image, second.image]), answers)
