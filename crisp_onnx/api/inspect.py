"""`inspect`: recount what a compressed file holds: every N:M group, every block row, every byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format import HYBRID_OPS, HybridTensors, Pattern, decode, unpack
from crisp_onnx.model import load


@dataclass(frozen=True)
class HybridLayer:
    """One hybrid operator as stored. `density` and `non_zeros` are counted in the decoded weight."""

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


@dataclass(frozen=True)
class Inspection:
    """`dense_bytes`: every stored tensor that is not part of a hybrid layer."""

    path: Path
    layers: tuple[HybridLayer, ...]
    dense_bytes: int
    file_bytes: int

    @property
    def formula_bytes(self) -> int:
        """The format's formula over all hybrid layers plus the dense rest."""
        return sum(layer.formula_bytes for layer in self.layers) + self.dense_bytes


def inspect(model: Path) -> Inspection:
    """Read a compressed file and recount it.

    Raises:
        CrispError: the file is broken, or holds no hybrid operator.
        VerificationFailed: a group holds more than N, blocks are out of order or range, or a tensor has a wrong shape.
    """
    source = load(model)
    graph = source.graph()
    layers = recount(graph)
    if not layers:
        raise CrispError(
            f"{model} holds no hybrid operator. It was not written by `crisp-onnx compress`, or with --emit dense."
        )
    packed = {i.name for node in graph.nodes if node.op in HYBRID_OPS for i in list(node.inputs)[1:4]}
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    dense_bytes = sum(t.values.nbytes for name, t in constants.items() if name not in packed)
    return Inspection(model, layers, dense_bytes, source.file_bytes)


def recount(graph: gs.Graph) -> tuple[HybridLayer, ...]:
    """Every hybrid operator of the graph, recounted; none where there is none.

    Raises:
        VerificationFailed: as `inspect`.
    """
    return tuple(_layer(node) for node in graph.nodes if node.op in HYBRID_OPS)


def _layer(node: gs.Node) -> HybridLayer:
    attrs = node.attrs
    try:
        pattern = Pattern(attrs["n"], attrs["m"], attrs["block"], attrs["vector_rows"])
        shape = tuple(int(side) for side in attrs["weight_shape"])
        tensors = HybridTensors(*(np.asarray(tensor.values) for tensor in list(node.inputs)[1:4]))
        stated_bits = int(attrs["index_bits"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise VerificationFailed(f"{node.op} {node.name!r} lacks {error}; the file is damaged.") from error
    except CrispError as error:
        raise VerificationFailed(f"{node.op} {node.name!r}: {error}") from error
    if stated_bits != pattern.index_bits or len(shape) != 4 or min(shape) < 1:
        raise VerificationFailed(
            f"{node.op} {node.name!r} states {stated_bits} index bits and weight shape {shape}, which cannot be with "
            f"pattern {pattern}; the file is damaged."
        )
    _check_tensors(node.name, tensors, shape, pattern)
    non_zeros = int(np.count_nonzero(decode(tensors, shape, pattern)))
    kept = tensors.blocks.shape[1]
    return HybridLayer(
        node.name, node.op, shape, pattern, kept, pattern.block_columns(shape), non_zeros / int(np.prod(shape)),
        non_zeros, tensors.values.nbytes, tensors.indices.nbytes + tensors.blocks.nbytes, pattern.bytes(shape, kept),
    )  # fmt: skip


def _check_tensors(name: str, tensors: HybridTensors, shape: tuple[int, ...], pattern: Pattern) -> None:
    rows, columns = pattern.block_rows(shape), pattern.block_columns(shape)
    types = [str(part.dtype) for part in (tensors.values, tensors.indices, tensors.blocks)]
    if types != ["float32", "uint8", "int32"] or tensors.blocks.ndim != 2 or not tensors.blocks.size:
        raise VerificationFailed(
            f"{name!r}: values, indices and blocks are {', '.join(types)} with blocks "
            f"{tensors.blocks.shape}, not float32, uint8 and int32 with at least one block in each block row."
        )
    kept = tensors.blocks.shape[-1]
    index_bytes = -(-pattern.kept_columns * pattern.index_bits // 8)
    wanted = {
        "values": (rows, kept, pattern.row_groups, pattern.kept_columns, pattern.vector_rows),
        "indices": (rows, kept, pattern.row_groups, index_bytes),
        "blocks": (rows, kept),
    }
    for part, dims in wanted.items():
        if getattr(tensors, part).shape != dims:
            raise VerificationFailed(f"{name!r}: {part} has shape {getattr(tensors, part).shape}, not {dims}.")
    blocks = tensors.blocks.astype(np.int64)
    if blocks.min() < 0 or blocks.max() >= columns or (np.diff(blocks, axis=1) <= 0).any():
        raise VerificationFailed(f"{name!r}: its blocks are not ascending columns below {columns} in every block row.")
    places = unpack(tensors.indices, pattern.kept_columns, pattern.index_bits)
    groups = places.reshape(*places.shape[:3], -1, pattern.n)
    if places.max() >= pattern.m or (np.diff(groups, axis=-1) <= 0).any():
        raise VerificationFailed(f"{name!r}: a group does not hold {pattern.n} different places of {pattern.m}.")
