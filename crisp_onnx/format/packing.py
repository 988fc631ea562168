"""Encode a masked weight as hybrid tensors, and decode it back: the format of the design, section 3."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import Defect
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.format.pattern import Pattern

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class HybridTensors:
    """`values` (R, S, G, Z, V), `indices` (R, S, G, ceil(Z*b/8)) uint8, `blocks` (R, S) int32 ascending."""

    values: npt.NDArray[np.generic]
    indices: npt.NDArray[np.uint8]
    blocks: npt.NDArray[np.int32]

    @property
    def bytes(self) -> int:
        return self.values.nbytes + self.indices.nbytes + self.blocks.nbytes


def encode(
    weight: npt.NDArray[np.generic],
    mask: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.int32],
    pattern: Pattern,
) -> HybridTensors:
    """Pack `weight * mask`, both (Cout, Cin, kh, kw). `kept`: (R, S) ascending block columns.

    Raises:
        Defect: the mask breaks N:M or row balance, or keeps a weight outside the kept blocks.
    """
    B, V, M = pattern.block, pattern.vector_rows, pattern.m
    values = _kept_groups(padded_matrix(np.where(mask, weight, 0).astype(weight.dtype), B), kept, pattern)
    chosen = _kept_groups(padded_matrix(mask, B), kept, pattern)
    if int(np.count_nonzero(chosen)) != int(np.count_nonzero(mask)):
        raise Defect("The mask keeps weights outside the kept blocks; this file cannot be encoded.")
    used = chosen.any(-1)
    if used.sum(-1).max(initial=0) > pattern.n:
        raise Defect(f"The mask keeps more than {pattern.n} of {M} in a group that {V} rows share.")
    place = np.sort(np.argsort(~used, axis=-1, kind="stable")[..., : pattern.n], axis=-1)
    R, S, G = place.shape[:3]
    packed = np.take_along_axis(values, place[..., None], -2).reshape(R, S, G, pattern.kept_columns, V)
    return HybridTensors(
        np.ascontiguousarray(packed), pack(place.reshape(R, S, G, -1), pattern.index_bits), kept.astype(np.int32)
    )


def decode(tensors: HybridTensors, shape: tuple[int, ...], pattern: Pattern) -> npt.NDArray[np.generic]:
    """Expand to the dense weight (Cout, Cin, kh, kw)."""
    R, S, G, Z, V = tensors.values.shape
    columns = pattern.block_columns(shape) * pattern.block
    column = _columns(tensors, pattern)
    dense = np.zeros((R, G, V, columns), tensors.values.dtype)
    where = np.broadcast_to(column.transpose(0, 2, 1, 3).reshape(R, G, 1, S * Z), (R, G, V, S * Z))
    np.put_along_axis(dense, where, tensors.values.transpose(0, 2, 4, 1, 3).reshape(R, G, V, S * Z), -1)
    return from_matrix(dense.reshape(R * pattern.block, columns), shape)


def lane_width(kept_columns: int) -> int:
    """Neighbouring kept columns of a row that lie together in an int8 file: as many as a VNNI lane takes at most."""
    return next(width for width in (4, 2, 1) if kept_columns % width == 0)


def in_lanes(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """(R, S, G, Z, V) -> (R, S, G, Z/q, V, q), q the `lane_width` of Z: int8 values as kernels read them in place."""
    R, S, G, Z, V = values.shape
    width = lane_width(Z)
    return np.ascontiguousarray(values.reshape(R, S, G, Z // width, width, V).swapaxes(-1, -2))


def out_of_lanes(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """The inverse of `in_lanes`."""
    R, S, G, lanes, V, width = values.shape
    return np.ascontiguousarray(values.swapaxes(-1, -2).reshape(R, S, G, lanes * width, V))


def count_non_zeros(tensors: HybridTensors, shape: tuple[int, ...], pattern: Pattern) -> int:
    """Weights of (Cout, Cin, kh, kw) that are not zero, the padding left out. Takes no more memory than the tensors."""
    R, _, G, _, V = tensors.values.shape
    row = np.arange(R * G * V).reshape(R, 1, G, 1, V)
    inside = (_columns(tensors, pattern) < prod(shape[1:]))[..., None] & (row < shape[0])
    return int(np.count_nonzero(inside & (tensors.values != 0)))


def _columns(tensors: HybridTensors, pattern: Pattern) -> npt.NDArray[np.int64]:
    """(R, S, G, Z): the column of A in which each stored value stands."""
    slots = tensors.values.shape[3]
    place = unpack(tensors.indices, slots, pattern.index_bits) + np.arange(slots) // pattern.n * pattern.m
    column: npt.NDArray[np.int64] = place + tensors.blocks[:, :, None, None].astype(np.int64) * pattern.block
    return column


def unpack(indices: npt.NDArray[np.uint8], count: int, bits: int) -> npt.NDArray[np.int64]:
    """(..., bytes) -> (..., count) places, low bits first."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    places = (indices[..., None] >> shifts) & (2**bits - 1)
    cut: npt.NDArray[np.int64] = places.reshape(*indices.shape[:-1], -1)[..., :count].astype(np.int64)
    return cut


def _kept_groups(
    matrix: npt.NDArray[np.generic], kept: npt.NDArray[np.int32], pattern: Pattern
) -> npt.NDArray[np.generic]:
    """(R*B, C*B) -> (R, S, G, B/M, M, V): the kept blocks, cut into groups of V rows by M columns."""
    B, V, M = pattern.block, pattern.vector_rows, pattern.m
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // B, B, columns // B, B).transpose(0, 2, 1, 3)
    blocks = np.take_along_axis(blocks, kept[:, :, None, None].astype(np.int64), 1)
    R, S = kept.shape
    groups: npt.NDArray[np.generic] = blocks.reshape(R, S, B // V, V, B // M, M).transpose(0, 1, 2, 4, 5, 3)
    return groups


def pack(places: npt.NDArray[np.integer], bits: int) -> npt.NDArray[np.uint8]:
    """(R, S, G, count) places -> (R, S, G, bytes), `bits` each, low bits first: the inverse of `unpack`."""
    per_byte = 8 // bits
    padded = np.pad(places, [(0, 0)] * 3 + [(0, -places.shape[-1] % per_byte)])
    grouped = padded.reshape(*places.shape[:3], -1, per_byte)
    packed: npt.NDArray[np.uint8] = (grouped << (np.arange(per_byte) * bits)).sum(-1).astype(np.uint8)
    return packed
