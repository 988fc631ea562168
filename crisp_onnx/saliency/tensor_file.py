"""A safetensors file of float32 tensors, which are read when they are asked for, and not mapped.

A mapped file that is cut meanwhile ends the process, and one that is replaced gives the numbers of another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.data.file_state import State, state_of
from crisp_onnx.data.rows import FileRows
from crisp_onnx.reading import border, shown

MAX_HEADER_BYTES = 64 << 20
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class TensorFile:
    """What a file's header says. `starts`: the byte at which each tensor begins. `state`: the file's, to stay so."""

    path: Path
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    starts: Mapping[str, int]
    state: State

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Those tensors, by name.

        Raises:
            CrispError: the file was changed since it was opened, or cannot be read any more.
        """
        where = shown(str(self.path))
        with border(f"{where} cannot be read any more", "Start again."), self.path.open("rb", buffering=0) as file:
            return {name: self._tensor(file, name, where) for name in names}

    def _tensor(self, file: IO[bytes], name: str, where: str) -> Tensor:
        shape = self.shapes[name]
        rows = FileRows(file, self.starts[name], FLOAT, (prod(shape),), where, self.state)
        return torch.from_numpy(rows[:].astype(np.float32, copy=False).reshape(shape))


def open_tensors(path: Path, remedy: str) -> TensorFile:
    """Read the header of a safetensors file. `remedy`: what to do where it is none, a sentence.

    Raises:
        CrispError: it is no such file, or its header names bytes that it does not have.
    """
    with border(f"{shown(str(path))} cannot be read as a bank", remedy), path.open("rb", buffering=0) as file:
        state = state_of(file.fileno())
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if header_bytes > min(MAX_HEADER_BYTES, state[0]):
            raise ValueError("it is no safetensors file")
        told: dict[str, Any] = json.loads(file.read(header_bytes))
        start = _LENGTH_BYTES + header_bytes
        metadata = {str(key): str(text) for key, text in told.pop(_METADATA, {}).items()}
        shapes, starts = {}, {}
        for name, entry in told.items():
            first, end = map(int, entry["data_offsets"])
            shape = tuple(map(int, entry["shape"]))
            is_there = first >= 0 and start + end <= state[0] and min(shape, default=0) >= 0
            if entry["dtype"] != "F32" or not is_there or end - first != FLOAT.itemsize * prod(shape):
                raise ValueError(f"tensor {name!r} is not float32 numbers in the file")
            shapes[name], starts[name] = shape, start + first
    return TensorFile(path, metadata, shapes, starts, state)
