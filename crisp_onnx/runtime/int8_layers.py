"""Every operator of ours on bytes in a file, run alone with the kernels and by its body on what flows into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from crisp_onnx.format import DOMAIN
from crisp_onnx.format.node import is_on_bytes
from crisp_onnx.model.read import load
from crisp_onnx.runtime.opening import session

MOST_STEPS, LEAST_EQUAL = 1, 0.999
"""What kernels and body may differ by in one layer: they round in another order."""


@dataclass(frozen=True)
class LayerAgreement:
    """`worst_step`: largest difference in steps of the output; `equal`: share of the values that are the same."""

    name: str
    worst_step: int
    equal: float

    @property
    def holds(self) -> bool:
        return self.worst_step <= MOST_STEPS and self.equal >= LEAST_EQUAL


def int8_agreement(path: Path, inputs: npt.NDArray[np.float32]) -> tuple[LayerAgreement, ...]:
    """Kernels against bodies, one node after the other, on what stock ONNX Runtime computes of the images `inputs`.

    Hybrid layers on bytes, and what stands between them: depthwise convolutions, pools, functions of single bytes.

    Raises:
        CrispError: the file does not run, or not with the native kernels.
    """
    model = load(path)
    layers = [node for node in model.proto.graph.node if is_on_bytes(node)]
    if not layers:
        return ()
    stored = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    flows = sorted({name for node in layers for name in (*node.input, *node.output) if name not in stored})
    found = _flowing(model.proto, flows, model.input.name, inputs.astype(model.input.dtype, copy=False))
    return tuple(_agreement(model.proto, node, stored, found) for node in layers)


def _flowing(proto: onnx.ModelProto, names: list[str], input_name: str, inputs: npt.NDArray[Any]) -> dict[str, Any]:
    """The tensors of these names, for the images, in stock ONNX Runtime."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    known = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    opened = session(shown.SerializeToString(), native=False)
    fixed = opened.get_inputs()[0].shape[0]
    rows = np.arange(fixed) % len(inputs) if isinstance(fixed, int) else np.arange(len(inputs))
    return dict(zip(names, opened.run(names, {input_name: inputs[rows]}), strict=True))


def _agreement(
    proto: onnx.ModelProto, node: onnx.NodeProto, stored: Mapping[str, TensorProto], found: Mapping[str, Any]
) -> LayerAgreement:
    fed = list(dict.fromkeys(name for name in node.input if name not in stored))
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, found[name].shape) for name in fed],
        [helper.make_tensor_value_info(node.output[0], TensorProto.UINT8, None)],
        [stored[name] for name in dict.fromkeys(node.input) if name in stored],
    )
    functions = [function for function in proto.functions if function.domain == DOMAIN]
    alone = helper.make_model(
        graph, opset_imports=list(proto.opset_import), functions=functions, ir_version=proto.ir_version
    )
    kernels: ort.InferenceSession = session(alone.SerializeToString(), native=True)
    answer = kernels.run(None, {name: found[name] for name in fed})[0]
    expected = found[node.output[0]]
    if answer.shape != expected.shape:
        return LayerAgreement(node.name, 255, 0.0)
    apart = np.abs(answer.astype(np.int16) - expected.astype(np.int16))
    return LayerAgreement(node.name, int(apart.max(initial=0)), float((apart == 0).mean()) if apart.size else 1.0)
