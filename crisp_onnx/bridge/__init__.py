"""Stage 3, cross over: an ONNX graph as a torch module that can be trained, and its weights back into the graph."""

from crisp_onnx.bridge.batch import prepared_for, to_batch, usable_batch
from crisp_onnx.bridge.build import missing_operators, to_torch
from crisp_onnx.bridge.compare import compare_with_runtime
from crisp_onnx.bridge.missing import refusal_of
from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.bridge.node import Node
from crisp_onnx.bridge.prepare import untie_statistics
from crisp_onnx.bridge.rehearsal import rehearse
from crisp_onnx.bridge.weights_back import write_back

__all__ = [
    "GraphModule",
    "Node",
    "compare_with_runtime",
    "missing_operators",
    "prepared_for",
    "refusal_of",
    "rehearse",
    "to_batch",
    "to_torch",
    "untie_statistics",
    "usable_batch",
    "write_back",
]
