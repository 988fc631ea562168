"""The forms in which a network is timed: dense or in hybrid operators, each on floats and on bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from crisp_onnx.cost.calibrate.hybrid import hybrid_network
from crisp_onnx.format.node import Grid
from crisp_onnx.masks import Plan
from crisp_onnx.model import DEFAULT_SIZE, Model, with_value_info
from crisp_onnx.passes import dense_passes, run_passes
from crisp_onnx.quantize.model import quantise_model, quantised_tensors

Form = Callable[[Model, int], Model | None]
DENSE = "dense"
GRID = Grid(6 / 255, 0)
"""From zero to six, so that neither a Relu nor a Clip at six needs an operator, as on calibrated ranges."""


def _dense(model: Model, seed: int) -> Model | None:
    return model


def _hybrid(model: Model, seed: int) -> Model | None:
    return hybrid_network(with_value_info(model), seed)


def _int8(model: Model, seed: int) -> Model | None:
    graph = model.graph()
    run_passes(dense_passes(Plan()), graph)
    return _on_bytes(model.with_graph(graph))


def _hybrid_int8(model: Model, seed: int) -> Model | None:
    sparse = _hybrid(model, seed)
    return None if sparse is None else _on_bytes(sparse)


def _on_bytes(model: Model) -> Model | None:
    """In int8 as `compress --precision int8` writes it, all on one grid: times do not depend on what bytes mean."""
    informed = with_value_info(model)
    grids = dict.fromkeys(quantised_tensors(informed.graph()), GRID)
    return quantise_model(informed, grids, size=DEFAULT_SIZE).model


FORMS: Mapping[str, Form] = MappingProxyType(
    {DENSE: _dense, "hybrid": _hybrid, "int8": _int8, "hybrid int8": _hybrid_int8}
)
"""(network, seed of its zeros) -> the network in that form; `None` where it has none."""
