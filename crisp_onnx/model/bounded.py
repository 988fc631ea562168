"""Refuse, before anything else touches it, a graph that takes more memory or time than running a classifier once may.

Most graphs say by their shapes how much they are. The others (loops, sizes computed while they run, operators that
nothing is known of) are run once in a process of their own, which has limits and can be stopped.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from crisp_onnx.confined import Limits, excess, wants_memory
from crisp_onnx.errors import CrispError
from crisp_onnx.model.answers import open_model, seeded_image
from crisp_onnx.model.forecast import Forecast, forecast
from crisp_onnx.model.functions import require_few_nodes
from crisp_onnx.model.read import load
from crisp_onnx.model.shapes import facts
from crisp_onnx.model.spec import DEFAULT_SIZE, Model, Size
from crisp_onnx.reading import shown

log = logging.getLogger(__name__)

MEMORY_BYTES = 8 << 30
"""Of one run in a process of its own, and never more than the machine's memory."""
PROCESS_BYTES = 1 << 30
"""What Python and its libraries take of it."""
PROCESSOR_S = 20


def require_bounded(model: Model, size: Size = DEFAULT_SIZE) -> None:
    """Whether reading the shapes of `model` and running it on one input of `size` stays within the limits.

    Raises:
        CrispError: it does not, or it has no single input.
    """
    require_few_nodes(model.proto, model.path)
    told = forecast(model, _memory_bytes(), size)
    found = told.excess
    if told.why and not found:
        log.debug("%s is run in a process of its own first: %s", model.path.name, told.why)
        found = excess(f"{__name__}:run_once", (str(model.path.absolute()), *size), _limits(told))
    if found:
        raise CrispError(
            f"{shown(str(model.path))} cannot be worked on: running it on one input {found} ({told.why}). "
            "Export it without loops and computed sizes, or for a smaller input."
        )


def run_once(path: str, height: int, width: int) -> None:
    """What the child does: infer every shape, and run the model with all of its tensors kept, as later stages do."""
    model, size = load(path), (height, width)
    spec = model.input
    facts(model)
    image = {spec.name: seeded_image(spec, 1, size)}
    written = [name for node in model.proto.graph.node for name in node.output if name]
    try:
        open_model(model, written).run(image)
    except Exception as error:  # not every tensor can be an output
        if wants_memory(error):
            raise
        open_model(model).run(image)


def _limits(told: Forecast) -> Limits:
    """Where no shape says how much a run takes, a small file is allowed less than a large one."""
    most = _memory_bytes()
    return Limits(most if told.sized else min(most, PROCESS_BYTES + told.unasked_bytes), PROCESSOR_S)


def _memory_bytes() -> int:
    with suppress(AttributeError, ValueError, OSError):  # no such question on this system
        return min(MEMORY_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return MEMORY_BYTES
