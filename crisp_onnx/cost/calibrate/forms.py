"""The forms in which a network is timed: dense or in hybrid operators, each on floats and on bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from crisp_onnx.cost.calibrate.hybrid import hybrid_network
from crisp_onnx.model import DEFAULT_SIZE, Model, height_and_width, with_value_info
from crisp_onnx.quantize import rehearsed

Form = Callable[[Model, int], Model | None]
DENSE = "dense"


def _dense(model: Model, seed: int) -> Model | None:
    return model


def _hybrid(model: Model, seed: int) -> Model | None:
    return hybrid_network(with_value_info(model), seed)


def _int8(model: Model, seed: int) -> Model | None:
    return _on_bytes(model)


def _hybrid_int8(model: Model, seed: int) -> Model | None:
    sparse = _hybrid(model, seed)
    return None if sparse is None else _on_bytes(sparse)


def _on_bytes(model: Model) -> Model | None:
    """In int8 as `compress --precision int8` writes it, on grids that mean nothing: times do not depend on them."""
    return rehearsed(with_value_info(model), size=height_and_width(DEFAULT_SIZE)).model


FORMS: Mapping[str, Form] = MappingProxyType(
    {DENSE: _dense, "hybrid": _hybrid, "int8": _int8, "hybrid int8": _hybrid_int8}
)
"""(network, seed of its zeros) -> the network in that form; `None` where it has none."""
