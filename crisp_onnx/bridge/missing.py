"""What a graph holds that cannot cross to torch, and what its user can do about it, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from crisp_onnx.bridge.handlers import OPERATORS
from crisp_onnx.bridge.prepare import DEFAULT_DOMAIN
from crisp_onnx.reading import shown

Missing = Mapping[str, tuple[str, ...]]
_OF_RUNTIME = ("com.microsoft::", "com.microsoft.nchwc::", "com.ms.internal.nhwc::", "ai.onnx.ml::")


@dataclass(frozen=True)
class _Kind:
    """Operators that belong together: what the file is or does that has them, and what to do."""

    holds: Callable[[str], bool]
    what: str
    remedy: str


def _quantised(op: str) -> bool:
    name = op.rpartition("::")[2]
    known = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    return name in known or name.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantize", "MatMulNBits"))


_KINDS = (
    _Kind(
        _quantised, "computes with whole numbers of 8 bits or less",
        "Compress the float model that it was made from, and quantise the result",
    ),
    _Kind(
        lambda op: op.startswith(_OF_RUNTIME[:3]), "was saved by ONNX Runtime with its own operators",
        "Give the file from before its optimisation, or save it with ORT_ENABLE_BASIC",
    ),
    _Kind(
        lambda op: op in ("If", "Loop", "Scan"), "decides while it runs what to compute",
        "Export it with fixed sides or in another way, so that no decision depends on the input",
    ),
    _Kind(
        lambda op: "Sequence" in op or op.startswith("Optional"), "passes sequences about whose content is not known",
        "Export it with tensors alone",
    ),
    _Kind(
        lambda op: op in ("LSTM", "GRU", "RNN"), "is recurrent", "Only feed-forward classifiers can be compressed",
    ),
    _Kind(
        lambda op: "::" in op, "uses operators that are no part of ONNX", "Export the model without them",
    ),
    _Kind(
        lambda op: True, "uses operators that the bridge to torch lacks",
        "Export the model without them, or add handlers in crisp_onnx/bridge/handlers",
    ),
)  # fmt: skip


def missing_in(nodes: Iterable[gs.Node]) -> dict[str, tuple[str, ...]]:
    """Names of the nodes by operator, for each operator that the bridge lacks; foreign ones as `domain::Operator`."""
    missing: dict[str, list[str]] = {}
    for node in nodes:
        foreign = node.domain not in DEFAULT_DOMAIN
        if foreign or node.op not in OPERATORS:
            missing.setdefault(f"{node.domain}::{node.op}" if foreign else node.op, []).append(node.name)
    return {op: tuple(names) for op, names in missing.items()}


def refusal_of(missing: Missing, name: str) -> str:
    """Why the model `name` cannot cross, listing all that is `missing`; empty where nothing is."""
    if not missing:
        return ""
    kind = next(kind for kind in _KINDS if any(kind.holds(op) for op in missing))
    listed = ", ".join(
        f"{shown(op)} ({len(names)} node{'s' if len(names) > 1 else ''}, first: {shown(names[0])!r})"
        for op, names in missing.items()
    )
    return f"{name} {kind.what}: {listed}. {kind.remedy}."
