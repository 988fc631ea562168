"""What flows between nodes: torch tensors, and small integers known on the host from which shapes are computed.

Shape arithmetic stays on plain Python numbers, so that a `Reshape` to a computed shape needs no copy from the device
and `torch.compile` traces through it without a graph break.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.errors import CrispError

HOST_SIZE = 64
_NUMPY_TO_TORCH = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class Host(NamedTuple):
    """At most `HOST_SIZE` numbers of a scalar (`rank` 0) or a vector (`rank` 1), held as plain Python numbers."""

    values: tuple[Any, ...]
    rank: int
    dtype: torch.dtype


Value: TypeAlias = Tensor | Host


def torch_dtype(name: str, where: str) -> torch.dtype:
    """The torch type of the NumPy type `name`; `where` names the tensor or node for the error.

    Raises:
        CrispError: torch has no such type, or too few operators for it.
    """
    if name not in _NUMPY_TO_TORCH:
        raise CrispError(f"{where} has element type {name}, which the bridge to torch cannot compute with.")
    return _NUMPY_TO_TORCH[name]


def from_numpy(array: npt.NDArray[Any], where: str) -> Tensor:
    """A tensor with the same bits; `where` names the tensor for the error."""
    dtype = torch_dtype(array.dtype.name, where)
    array = np.ascontiguousarray(array).reshape(array.shape)
    if dtype == torch.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_numpy(tensor: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The tensor as an array of `dtype`; bit for bit when that is the tensor's own type."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16 and dtype.name == "bfloat16":
        bits: npt.NDArray[Any] = tensor.view(torch.int16).numpy().view(dtype)
        copied: npt.NDArray[Any] = bits.copy()
        return copied
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.numpy().astype(dtype, copy=True)
    return array


def to_host(value: Tensor | npt.NDArray[Any]) -> Host:
    """The numbers of a scalar or vector."""
    tensor = value if isinstance(value, Tensor) else from_numpy(value, "a constant")
    numbers = tensor.reshape(-1).tolist()
    return Host(tuple(numbers), min(tensor.ndim, 1), tensor.dtype)


def to_tensor(value: Value, device: torch.device) -> Tensor:
    if not isinstance(value, Host):
        return value
    if value.rank == 0:
        return torch.tensor(value.values[0], dtype=value.dtype, device=device)
    return torch.tensor(list(value.values), dtype=value.dtype, device=device)
