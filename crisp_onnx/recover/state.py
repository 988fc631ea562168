"""`State`: all that a run has come to, as named tensors and plain JSON values, so that any store can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crisp_onnx.errors import CrispError


@dataclass(frozen=True, eq=False)
class State:
    """`tensors`: on the CPU, contiguous, none sharing memory with what is trained. `values`: what JSON can hold."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def under(self, name: str) -> State:
        """The same with every key behind `name/`."""
        return State(
            {f"{name}/{key}": tensor for key, tensor in self.tensors.items()},
            {f"{name}/{key}": value for key, value in self.values.items()},
        )

    def part(self, name: str) -> State:
        """What stands behind `name/`."""
        at = len(name) + 1
        return State(
            {key[at:]: tensor for key, tensor in self.tensors.items() if key.startswith(f"{name}/")},
            {key[at:]: value for key, value in self.values.items() if key.startswith(f"{name}/")},
        )

    def __or__(self, other: State) -> State:
        return State({**self.tensors, **other.tensors}, {**self.values, **other.values})


def copied(tensors: Mapping[str, Tensor]) -> State:
    """A state of copies, which later steps do not change."""
    return State({name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()})


def restore(tensors: Mapping[str, Tensor], state: State) -> None:
    """Copy a state's tensors over those of the same names.

    Raises:
        CrispError: the state has other tensors, or some of other shapes.
    """
    found = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
    own = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != own:
        odd = sorted(name for name in found.keys() | own.keys() if found.get(name) != own.get(name))
        raise CrispError(f"The saved state is of another model: tensor {odd[0]!r} differs. Start the run anew.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state.tensors[name])
