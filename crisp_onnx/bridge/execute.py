"""Run one node: on plain numbers where all its inputs are such, otherwise through its torch handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crisp_onnx.bridge.handlers import OPERATORS
from crisp_onnx.bridge.host import HOST_OPERATORS
from crisp_onnx.bridge.node import Node, Operator, Result
from crisp_onnx.bridge.value import Host, Value, to_host, to_tensor


def run_node(node: Node, inputs: Sequence[Value | None], device: torch.device) -> Sequence[Value]:
    """The outputs of `node`; new tensors are made on `device`. Omitted inputs are `None`.

    Raises:
        CrispError: a case that the handler does not understand.
    """
    on_host = _on_host(node, inputs)
    if on_host is not None:
        return _as_sequence(on_host)
    operator = OPERATORS[node.op]
    arguments = _arguments(operator, inputs, device)
    result = operator.run(node, *arguments, device=device) if operator.creates else operator.run(node, *arguments)
    return _as_sequence(result)


def _on_host(node: Node, inputs: Sequence[Value | None]) -> Result | None:
    handler = HOST_OPERATORS.get(node.op)
    if handler is None or not inputs or any(isinstance(value, Tensor) for value in inputs):
        return None
    return handler(node, *inputs)


def _arguments(operator: Operator, inputs: Sequence[Value | None], device: torch.device) -> list[Any]:
    rank = max([-1, *(value.ndim for value in inputs if isinstance(value, Tensor))])
    arguments: list[Any] = []
    for slot, value in enumerate(inputs):
        if value is None:
            arguments.append(None)
        elif slot in operator.host:
            arguments.append(value if isinstance(value, Host) else to_host(value))
        elif slot in operator.scalar and isinstance(value, Host) and len(value.values) == 1 and value.rank <= rank:
            arguments.append(value.values[0])
        else:
            arguments.append(to_tensor(value, device))
    return arguments


def _as_sequence(result: Result) -> Sequence[Value]:
    return (result,) if isinstance(result, Tensor | Host) else result
