"""A packed weight in int8: symmetric, a scale a row, zeros exactly zero."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crisp_onnx.format.node import Int8Weight
from crisp_onnx.format.packing import HybridTensors

LARGEST = 127
ROOM = 1 << 30
"""Of the 31 bits of a sum, what its products may take, and what its bias may."""
MOST_OF_A_PRODUCT = 255
LEAST_SCALE = 1e-30


def int8_weight(tensors: HybridTensors, bias: npt.NDArray[np.float32], data_scale: float, rows: int) -> Int8Weight:
    """`tensors`, float values of a weight of `rows` rows, and its `bias` (rows,), for data of `data_scale`.

    The largest value that a row keeps sets its scale, or the largest sum of two that a kernel multiplies side by side:
    at most 128 steps, so that their products fit 16 bits, in which processors without VNNI add them. Where sums of a
    row would not fit, the scale is larger.
    """
    values = tensors.values.astype(np.float64)
    largest = _rows(np.maximum(np.abs(values).max(axis=(1, 3)), _pairs(values).max(axis=(1, 3), initial=0)))[:rows]
    sums = _rows(np.abs(values).sum(axis=(1, 3)))[:rows]
    scale = largest / LARGEST
    # Sums of rounded values exceed those of the values by half a step each at most.
    kept = values.shape[1] * values.shape[3]
    scale = np.maximum(scale, MOST_OF_A_PRODUCT * sums / max(1, ROOM - MOST_OF_A_PRODUCT * kept))
    scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / data_scale / ROOM)
    stored = np.where(scale > 0, np.maximum(scale, LEAST_SCALE), 1).astype(np.float32)
    spread = np.ones(values.shape[0] * values.shape[2] * values.shape[4])
    spread[:rows] = stored
    steps = values / spread.reshape(values.shape[0], 1, values.shape[2], 1, values.shape[4])
    whole = np.clip(np.rint(steps), -LARGEST, LARGEST).astype(np.int8)
    wholes = np.clip(np.rint(bias / (stored.astype(np.float64) * data_scale)), -ROOM, ROOM).astype(np.int32)
    return Int8Weight(HybridTensors(whole, tensors.indices, tensors.blocks), stored, wholes)


def _pairs(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(R, S, G, Z, V) -> (R, S, G, Z // 2, V): how far two neighbours of a step go together, of one sign each."""
    even, odd = values[:, :, :, : values.shape[3] // 2 * 2 : 2], values[:, :, :, 1::2]
    return np.abs(even + odd)


def _rows(of_groups: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(R, G, V) -> (R*G*V,)."""
    return of_groups.reshape(-1)
