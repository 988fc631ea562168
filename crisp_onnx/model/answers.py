"""Run a model in ONNX Runtime as its graph stands, nothing rewritten, and say how far two answers are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.model.skeleton import without_weights
from crisp_onnx.model.spec import Model, Size, TensorSpec

Array: TypeAlias = npt.NDArray[Any]
HANDED_OVER_ELEMENTS = 1 << 14
_PLAIN_KINDS = "fiub"  # what numpy and ONNX Runtime hold alike


@dataclass(frozen=True)
class Runner:
    """A model that is open. `held`: the weights that the session reads in place."""

    session: ort.InferenceSession
    held: tuple[ort.OrtValue, ...]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """The tensors `outputs`, by name, or all outputs of the graph; what ONNX Runtime raises is the caller's."""
        wanted = list(outputs) or [output.name for output in self.session.get_outputs()]
        return dict(zip(wanted, self.session.run(wanted, dict(inputs)), strict=True))


def open_model(model: Model, exposed: Sequence[str] = ()) -> Runner:
    """The model in ONNX Runtime, with inner tensors `exposed` as outputs; what ONNX Runtime raises is the caller's.

    Weights are handed over beside the graph, so that a model over protobuf's 2 GiB opens like any other.
    """
    proto = without_weights(model.proto)
    graph = proto.graph
    del graph.value_info[:]
    known = {output.name for output in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in exposed if name not in known)
    names, held = [], []
    for tensor in model.proto.graph.initializer:
        if prod(tensor.dims) <= HANDED_OVER_ELEMENTS or not _plain(tensor):
            graph.initializer.append(tensor)
            continue
        # ONNX Runtime takes the place of the data from a tensor that says it is elsewhere.
        graph.initializer.append(_elsewhere(tensor))
        names.append(tensor.name)
        held.append(ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(numpy_helper.to_array(tensor))))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_external_initializers(names, held)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Runner(session, tuple(held))


def seeded_image(spec: TensorSpec, batch: int, size: Size, *, seed: int = 0) -> Array:
    """An input of the shape and type of `spec`: standard normal values, or whole ones from 0 to 127."""
    shape, rng = spec.fixed(batch, size), np.random.default_rng(seed)
    if np.issubdtype(spec.dtype, np.floating):
        return rng.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
    return rng.integers(0, 128, shape).astype(spec.dtype)


def as_array(answer: Any) -> Array:
    """An answer as one array: the values of maps and sequences too, in their order."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if not isinstance(answer, list):
        return np.asarray(answer)
    parts = [as_array(part) for part in answer]
    if len({part.shape for part in parts}) == 1:
        return np.stack(parts)
    return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)


def relative_difference(ours: Array, theirs: Array) -> float:
    """`max|ours - theirs| / max|theirs|`; infinite where shapes differ or only one of both is finite.

    What holds no numbers is the same or infinitely far apart.
    """
    if not isinstance(theirs, np.ndarray) or theirs.dtype.kind not in _PLAIN_KINDS:
        return 0.0 if np.array_equal(ours, theirs) else float("inf")
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.size:
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    scale = max(float(np.abs(b[finite]).max(initial=0.0)), 1e-6)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / scale


def _plain(tensor: TensorProto) -> bool:
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    try:
        return helper.tensor_dtype_to_np_dtype(tensor.data_type).kind in _PLAIN_KINDS
    except (KeyError, TypeError):
        return False


def _elsewhere(tensor: TensorProto) -> TensorProto:
    bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    bare.data_location = TensorProto.EXTERNAL
    bare.external_data.add(key="location", value="handed over")
    return bare
