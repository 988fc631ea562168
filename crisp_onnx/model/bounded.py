"""Refuse, before anything else touches it, a graph that takes more memory or time than running a classifier once may.

Most graphs say by their shapes how much they are. The others (loops, sizes computed while they run, operators that
nothing is known of) are run once in a process of their own, which has limits and can be stopped.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from math import inf, prod

from crisp_onnx.confined import Limits, excess, wants_memory
from crisp_onnx.errors import CrispError
from crisp_onnx.model.answers import open_model, seeded_image
from crisp_onnx.model.functions import inlined, require_bounded_functions
from crisp_onnx.model.read import load
from crisp_onnx.model.shapes import facts, stated_shapes
from crisp_onnx.model.skeleton import nodes
from crisp_onnx.model.spec import DEFAULT_DOMAIN, DEFAULT_SIZE, Model, Size
from crisp_onnx.model.work import longest_propagated, multiplications
from crisp_onnx.reading import shown

log = logging.getLogger(__name__)

MEMORY_BYTES = 8 << 30
"""Of one run in a process of its own, and never more than the machine's memory."""
PROCESSOR_S = 20
MAX_VALUES = 1 << 29
"""In all tensors of one run together, as the shapes say; beyond, the run has a process of its own first."""
MAX_MULTIPLICATIONS = 1e12
MAX_PROPAGATED = 1 << 16
"""Values of one tensor that shape inference may carry along."""


def require_bounded(model: Model, size: Size = DEFAULT_SIZE) -> None:
    """Whether reading the shapes of `model` and running it on one input of `size` stays within the limits.

    Raises:
        CrispError: it does not, or it has no single input.
    """
    require_bounded_functions(model.proto, model.path)
    why = open_end(model, size)
    if not why:
        return
    log.debug("%s is run in a process of its own first: %s", model.path.name, why)
    found = excess(f"{__name__}:run_once", (str(model.path.absolute()), *size), _limits())
    if found:
        raise CrispError(
            f"{shown(str(model.path))} cannot be worked on: running it on one input {found} ({why}). "
            "Export it without loops and computed sizes, or for a smaller input."
        )


def open_end(model: Model, size: Size = DEFAULT_SIZE) -> str:
    """Why the shapes of a graph do not say how much one run of it is, a phrase; empty where they do, and it is little.

    Raises:
        CrispError: the model has no single input.
    """
    plain = inlined(model)
    for node in nodes(plain.proto):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return f"{node.op_type} node {shown(node.name)!r} holds a graph"
    listed, stored = plain.proto.graph.node, plain.proto.graph.initializer
    if longest_propagated(listed, {tensor.name: prod(tensor.dims) for tensor in stored}) > MAX_PROPAGATED:
        return "its shapes are computed from long lists"
    shapes = stated_shapes(plain, size=size)
    work = 0.0
    for node in listed:
        unknown = next((name for name in (*node.output, *node.input) if name and name not in shapes), None)
        if unknown is not None:
            return f"the size of tensor {shown(unknown)!r} is not known before it is computed"
        if node.domain not in DEFAULT_DOMAIN or (macs := multiplications(node, shapes)) == inf:
            return f"how much work {node.op_type} node {shown(node.name)!r} is cannot be told ahead"
        work += macs
    if work > MAX_MULTIPLICATIONS:
        return f"it takes up to {work:.1e} multiplications"
    values = sum(prod(shapes[name]) for node in listed for name in node.output if name)
    return f"its tensors hold {values:.1e} values" if values > MAX_VALUES else ""


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


def _limits() -> Limits:
    with suppress(AttributeError, ValueError, OSError):  # no such question on this system
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Limits(min(MEMORY_BYTES, there), PROCESSOR_S)
    return Limits(MEMORY_BYTES, PROCESSOR_S)
