"""`inspect`: recount what a compressed file holds: every N:M group, every block row, every byte."""

from __future__ import annotations

from pathlib import Path

import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.format import recount
from crisp_onnx.format.node import is_hybrid, packed_names
from crisp_onnx.model import load
from crisp_onnx.report.findings import Inspection


def inspect(model: Path) -> Inspection:
    """Read a compressed file and recount it.

    Raises:
        CrispError: the file is broken, or holds no hybrid operator.
        VerificationFailed: a hybrid node or its tensors cannot be as they are; names the node.
    """
    source = load(model)
    graph = source.graph()
    layers = recount(graph)
    if not layers:
        raise CrispError(
            f"{model} holds no hybrid operator. It was not written by `crisp-onnx compress`, or with --emit dense."
        )
    packed = {name for node in graph.nodes if is_hybrid(node) for name in packed_names(node)}
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    dense_bytes = sum(t.values.nbytes for name, t in constants.items() if name not in packed)
    return Inspection(model, layers, dense_bytes, source.file_bytes)
