"""What a model becomes and costs on one target, and how the user asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crisp_onnx.api.densities import measured_densities
from crisp_onnx.api.trials import no_fault_of
from crisp_onnx.cost import Estimate
from crisp_onnx.cost import estimate as estimate_lowered
from crisp_onnx.cost.calibrate.machine import measured_elsewhere
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering import Lowered, Target, read_lowered
from crisp_onnx.lowering import lower as lower_model
from crisp_onnx.lowering.written_out import written_out
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, height_and_width, load
from crisp_onnx.model.bounded import require_bounded


@dataclass(frozen=True)
class Asked:
    """`size`: pixels of sides that the model leaves open. `data`: images on which zeros of inputs are measured.

    `densities`: what was measured on them already.
    """

    batch: int = 1
    size: int | Size | None = None
    dtype: str | None = None
    data: Path | None = None
    preprocess: str | None = None
    densities: Mapping[str, float] | None = None

    @property
    def sides(self) -> Size:
        return DEFAULT_SIZE if self.size is None else height_and_width(self.size)


def read_source(path: Path) -> Model | Lowered:
    """An ONNX file, or what `lower` wrote.

    Raises:
        CrispError: neither of the two.
    """
    return read_lowered(path) if path.suffix.lower() == ".json" else load(path)


def estimate_on(path: Path, source: Model | Lowered, target: Target, asked: Asked) -> Estimate:
    """The estimate of `source`, read from `path`, with a note where the target was measured on another machine.

    Raises:
        CrispError: the target cannot take it so.
    """
    lowered = _as_lowered(path, source, asked) if isinstance(source, Lowered) else lower_on(source, target, asked)
    found, note = estimate_lowered(lowered, target), measured_elsewhere(target)
    return replace(found, notes=(*found.notes, note)) if note else found


def lower_on(source: Model, target: Target, asked: Asked) -> Lowered:
    """`source` as `target` sees it.

    Raises:
        CrispError: it does not take the size, or has nothing to lower, or does not run on the images.
    """
    asked = with_densities(source, asked)
    with no_fault_of(source, asked.sides):
        return lower_model(
            source, target, batch=asked.batch, size=asked.sides, dtype=asked.dtype, densities=asked.densities
        )


def with_densities(source: Model, asked: Asked) -> Asked:
    """`asked` with what its images tell of `source`, which must take its size.

    Raises:
        CrispError: it does not, or it does not run on the images.
    """
    sides = asked.sides
    if asked.size is not None and not source.input.takes(sides):
        raise CrispError(
            f"--size {sides[0]}x{sides[1]} does not fit input {source.input.name!r}, which takes "
            f"{source.input.shape}. Leave it out: it says what open sides count as."
        )
    require_bounded(source, sides)
    if asked.data is None:
        return asked
    with no_fault_of(source, sides):
        found = measured_densities(written_out(source), asked.data, asked.preprocess)
        return replace(asked, data=None, densities=found)


def _as_lowered(path: Path, source: Lowered, asked: Asked) -> Lowered:
    if asked.data is not None:
        raise CrispError(f"{path} holds the densities that it was lowered with. Give --data with the model instead.")
    if asked.size is not None:
        raise CrispError(f"{path} was lowered with its sizes. Give --size with the model instead.")
    if (asked.batch, asked.dtype) not in ((source.batch, None), (1, None), (source.batch, source.dtype)):
        raise CrispError(f"{path} was lowered with batch {source.batch} in {source.dtype}. Lower the model again.")
    return source
