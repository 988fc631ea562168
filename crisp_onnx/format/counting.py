"""Recount what a file says of its hybrid layers: every N:M group, every block row, every byte."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format.node import damaged, grids_of, int8_weight_of, is_int8, read, tensors_of, value_bytes_of
from crisp_onnx.format.operators import BYTE_OPERATORS, DOMAIN
from crisp_onnx.format.packing import HybridTensors, count_non_zeros, unpack
from crisp_onnx.format.pattern import Pattern


@dataclass(frozen=True)
class HybridLayer:
    """One hybrid operator as stored. `density` and `non_zeros` are counted in the stored tensors."""

    name: str
    op: str
    shape: tuple[int, ...]
    pattern: Pattern
    kept_blocks: int
    block_columns: int
    density: float
    non_zeros: int
    value_bytes: int
    metadata_bytes: int
    formula_bytes: int


def recount(graph: gs.Graph) -> tuple[HybridLayer, ...]:
    """Every hybrid operator of the graph, recounted; none where there is none.

    Raises:
        VerificationFailed: a node that `node.read` refuses, a group that holds more than N, or blocks out of order or
            range; names the node.
    """
    return tuple(_layer(node) for node in graph.nodes if node.domain == DOMAIN and node.op not in BYTE_OPERATORS)


def _layer(node: gs.Node) -> HybridLayer:
    found = read(node)
    shape, pattern, tensors = found.shape, found.pattern, tensors_of(node)
    _check_places(node, tensors, pattern, pattern.block_columns(shape))
    if is_int8(node):
        _check_scales(node)
    non_zeros = count_non_zeros(tensors, shape, pattern)
    kept = tensors.blocks.shape[1]
    return HybridLayer(
        node.name, node.op, shape, pattern, kept, pattern.block_columns(shape), non_zeros / prod(shape),
        non_zeros, tensors.values.nbytes, tensors.indices.nbytes + tensors.blocks.nbytes,
        pattern.bytes(shape, kept, value_bytes_of(node)),
    )  # fmt: skip


def _check_places(node: gs.Node, tensors: HybridTensors, pattern: Pattern, columns: int) -> None:
    blocks = tensors.blocks.astype(np.int64)
    if blocks.min() < 0 or blocks.max() >= columns or (np.diff(blocks, axis=1) <= 0).any():
        raise damaged(node, f"has blocks that are not ascending columns below {columns} in every block row")
    places = unpack(tensors.indices, pattern.kept_columns, pattern.index_bits)
    groups = places.reshape(*places.shape[:3], -1, pattern.n)
    if places.max() >= pattern.m or (np.diff(groups, axis=-1) <= 0).any():
        raise damaged(node, f"has a group that does not hold {pattern.n} different places of {pattern.m}")


def _check_scales(node: gs.Node) -> None:
    scales = [int8_weight_of(node).scale, *(np.float32(grid.scale) for grid in grids_of(node) if grid is not None)]
    if not all((np.isfinite(scale) & (scale > 0)).all() for scale in scales):
        raise damaged(node, "has a scale that is no number above zero")
