"""One node as a handler sees it: name, operator, attributes, opset, and the way to refuse a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crisp_onnx.bridge.value import Host, Value
from crisp_onnx.errors import CrispError


@dataclass(frozen=True)
class Node:
    """A prepared node. Omitted inputs and outputs have an empty name; tensor attributes are NumPy arrays."""

    name: str
    op: str
    opset: int
    attrs: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def integer(self, key: str, default: int) -> int:
        return int(self.attrs.get(key, default))

    def number(self, key: str, default: float) -> float:
        return float(self.attrs.get(key, default))

    def text(self, key: str, default: str) -> str:
        return str(self.attrs.get(key, default))

    def integers(self, key: str, default: Sequence[int]) -> list[int]:
        return [int(v) for v in self.attrs.get(key, default)]

    def wants(self, output: int) -> bool:
        """Whether the graph reads this output."""
        return output < len(self.outputs) and bool(self.outputs[output])

    def refusal(self, reason: str) -> CrispError:
        """The error for a case that the bridge does not understand."""
        return CrispError(f"Node {self.name!r} ({self.op}, opset {self.opset}) cannot cross to torch: {reason}.")


Result = Value | Sequence[Value]


@dataclass(frozen=True)
class Operator:
    """How an ONNX operator runs in torch.

    `run(node, *inputs)` gets tensors, except in the slots listed in `host`, which are `Host` numbers, and in those
    listed in `scalar`, where a single number arrives as a Python number if it broadcasts. Omitted inputs are `None`.
    With `creates`, `run` also gets `device=`.
    """

    run: Callable[..., Result]
    host: tuple[int, ...] = ()
    scalar: tuple[int, ...] = ()
    creates: bool = False


HostHandler = Callable[..., "Host | Sequence[Host] | None"]
