"""Raise an old model to the oldest opset in which the hybrid operators' bodies can be written."""

from __future__ import annotations

import logging
from dataclasses import replace

from onnx import version_converter

from crisp_onnx.errors import CrispError
from crisp_onnx.model.overridable import overridable
from crisp_onnx.model.skeleton import skeleton, with_weights
from crisp_onnx.model.spec import Model

MIN_OPSET = 13
log = logging.getLogger(__name__)


def upgrade(model: Model) -> Model:
    """The model at opset 13 at least. Must run before any function is added: the converter drops functions.

    Raises:
        CrispError: the ONNX version converter cannot convert one of the operators.
    """
    if model.opset >= MIN_OPSET:
        return model
    if model.proto.functions:
        raise CrispError(
            f"{model.path.name} has opset {model.opset} and local functions, which cannot be converted. "
            f"Export it again at opset {MIN_OPSET} or newer."
        )
    # What the file says of inner shapes would mislead the converter, and weights would only be copied about.
    proto = skeleton(model.proto, hints=False)
    # In IR 3 every initializer is a graph input too; the converter needs IR 4 to keep them apart.
    proto.ir_version = max(proto.ir_version, 8)
    overrides = overridable(model.proto)
    fixed = [tensor for tensor in proto.graph.initializer if tensor.name not in overrides]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(fixed)
    stored = {tensor.name for tensor in fixed}
    inputs = [v for v in proto.graph.input if v.name not in stored]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    try:
        converted = version_converter.convert_version(proto, MIN_OPSET)
    except Exception as error:  # the converter raises RuntimeError, ValueError and its own types alike
        raise CrispError(
            f"{model.path.name} has opset {model.opset} and cannot be converted to {MIN_OPSET}: "
            f"{str(error).strip().splitlines()[0]}. Export it again at opset {MIN_OPSET} or newer."
        ) from error
    log.info("converted opset %d to %d", model.opset, MIN_OPSET)
    whole = with_weights(converted, model.proto)
    for output, declared in zip(whole.graph.output, model.proto.graph.output, strict=True):
        output.type.CopyFrom(declared.type)
    return replace(model, proto=whole)
