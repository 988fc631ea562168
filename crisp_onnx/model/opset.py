"""Raise an old model to the oldest opset in which the hybrid operators' bodies can be written."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import version_converter

from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import Model

MIN_OPSET = 13
TOLERANCE = 1e-4
log = logging.getLogger(__name__)


def upgrade(model: Model) -> Model:
    """The model at opset 13 at least. Must run before any function is added: the converter drops functions.

    The converted model must answer a seeded input as the original does, where ONNX Runtime still runs the original.

    Raises:
        CrispError: the ONNX version converter cannot convert one of the operators, or changes the answers.
    """
    if model.opset >= MIN_OPSET:
        return model
    if model.proto.functions:
        raise CrispError(
            f"{model.path.name} has opset {model.opset} and local functions, which cannot be converted. "
            f"Export it again at opset {MIN_OPSET} or newer."
        )
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    # In IR 3 every initializer is a graph input too; the converter needs IR 4 to keep them apart.
    proto.ir_version = max(proto.ir_version, 8)
    stored = {t.name for t in proto.graph.initializer}
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
    upgraded = replace(model, proto=converted)
    _compare(model, upgraded)
    return upgraded


def _compare(model: Model, upgraded: Model) -> None:
    spec = model.input
    image = np.random.default_rng(0).standard_normal(spec.fixed(1)).astype(spec.dtype)
    try:
        before = _answer(model.proto, spec.name, image)
    except Exception as error:  # onnxruntime raises many types; below opset 7 it promises nothing
        log.warning("the original of opset %d does not run here, so its conversion is not checked: %s",
                    model.opset, str(error).splitlines()[0])  # fmt: skip
        return
    try:
        after = _answer(upgraded.proto, spec.name, image)
        worst = float(np.abs(before - after).max(initial=0.0)) / (float(np.abs(before).max(initial=0.0)) or 1.0)
    except Exception as error:  # onnxruntime raises many types, numpy one for other shapes
        reason = str(error).strip().splitlines()[0]
        raise CrispError(_changed(model, f"the result does not run: {reason}")) from error
    if not worst <= TOLERANCE:
        raise CrispError(_changed(model, f"the result differs by {worst:.1e} (relative)"))


def _answer(proto: onnx.ModelProto, name: str, image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([session.get_outputs()[0].name], {name: image})[0], np.float64)


def _changed(model: Model, what: str) -> str:
    return (
        f"Converting {model.path.name} from opset {model.opset} to {MIN_OPSET} went wrong: {what}. "
        f"Export it again at opset {MIN_OPSET} or newer."
    )
