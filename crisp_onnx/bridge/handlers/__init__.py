"""The table of operators: one entry per ONNX operator of the default domain that the bridge can run in torch."""

from __future__ import annotations

from crisp_onnx.bridge.handlers.activation import ACTIVATION
from crisp_onnx.bridge.handlers.attention import ATTENTION
from crisp_onnx.bridge.handlers.conv import CONV
from crisp_onnx.bridge.handlers.create import CREATE
from crisp_onnx.bridge.handlers.elementwise import ELEMENTWISE
from crisp_onnx.bridge.handlers.index import INDEX
from crisp_onnx.bridge.handlers.matrix import MATRIX
from crisp_onnx.bridge.handlers.norm import NORM
from crisp_onnx.bridge.handlers.pad import PAD
from crisp_onnx.bridge.handlers.pool import POOL
from crisp_onnx.bridge.handlers.quantized import QUANTIZED
from crisp_onnx.bridge.handlers.reduce import REDUCE
from crisp_onnx.bridge.handlers.resize import RESIZE
from crisp_onnx.bridge.handlers.select import SELECT
from crisp_onnx.bridge.handlers.shape import SHAPE
from crisp_onnx.bridge.node import Operator

OPERATORS: dict[str, Operator] = {
    **ACTIVATION,
    **ATTENTION,
    **CONV,
    **CREATE,
    **ELEMENTWISE,
    **INDEX,
    **MATRIX,
    **NORM,
    **PAD,
    **POOL,
    **QUANTIZED,
    **REDUCE,
    **RESIZE,
    **SELECT,
    **SHAPE,
}
