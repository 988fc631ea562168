"""What least squares see of a layer: its inputs as rows in the order of the format, and the outputs of these rows.

A convolution is a matrix product at every output position: row (h, w) of X holds the window that it reads, tap by tap
with the input channel fastest, so that X has the columns of the weight's matrix view (Cout, K).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from crisp_onnx.bridge import Node
from crisp_onnx.format.matrix import from_matrix, padded_matrix
from crisp_onnx.model import WeightLayer


def row_count(layer: WeightLayer, outputs: Tensor) -> int:
    """How many rows a batch's outputs hold."""
    return outputs.numel() // layer.shape[0]


def input_rows(layer: WeightLayer, node: Node, inputs: Tensor, outputs: Tensor, at: Tensor) -> Tensor:
    """(len(at), K): the inputs of the rows numbered `at` (int64). `outputs`: a batch's, for their shape alone."""
    if layer.op != "Conv":
        return inputs.reshape(-1, inputs.shape[-1])[at]
    kh, kw = layer.shape[2:]
    height, width = outputs.shape[2:]
    pads = node.integers("pads", (0, 0, 0, 0))
    strides, dilations = node.integers("strides", (1, 1)), node.integers("dilations", (1, 1))
    padded = functional.pad(inputs, (pads[1], pads[3], pads[0], pads[2])).permute(0, 2, 3, 1)
    image, place = at // (height * width), at % (height * width)
    top, left = place // width * strides[0], place % width * strides[1]
    windows = [padded[image, top + y * dilations[0], left + x * dilations[1]] for y in range(kh) for x in range(kw)]
    return torch.stack(windows, 1).reshape(len(at), -1)


def output_rows(layer: WeightLayer, outputs: Tensor, at: Tensor) -> Tensor:
    """(len(at), Cout): the outputs of the rows numbered `at`."""
    last = outputs.permute(0, 2, 3, 1) if layer.op == "Conv" else outputs
    return last.reshape(-1, layer.shape[0])[at]


def mask_rows(layer: WeightLayer, mask: npt.NDArray[np.bool_]) -> Tensor:
    """A plan's mask (Cout, Cin, kh, kw) as (Cout, K)."""
    return torch.from_numpy(padded_matrix(mask, 1))


def as_rows(layer: WeightLayer, stored: Tensor) -> Tensor:
    """A stored weight as (Cout, K)."""
    return torch.from_numpy(padded_matrix(layer.matrix(stored.detach().cpu().numpy()), 1)).to(stored.device)


def as_stored(layer: WeightLayer, rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `as_rows`, in the layout of `like`."""
    matrix = from_matrix(rows.cpu().numpy(), layer.shape)
    return torch.from_numpy(layer.stored(matrix, np.empty(tuple(like.shape), matrix.dtype))).to(like.device)
