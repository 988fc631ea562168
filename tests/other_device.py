"""A device beside the processor that needs none: its tensors compute on the processor and refuse to meet any other's.

PyTorch's own place for devices of others (PrivateUse1) under the name `pretend`. What real accelerators refuse is
refused here: an operator over tensors of two devices, and `numpy()` of a tensor that is not on the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
aten = torch.ops.aten
TAKE_INDICES_OF_OTHERS = {
    aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default,
}  # fmt: skip


@cache
def registered() -> torch.device:
    """The device, made known to torch once in a process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).__class__.get_amp_supported_dtype = lambda self: [torch.bfloat16]
    return torch.device(NAME, 0)


class There(Tensor):
    """A tensor of the device; `held`: the same numbers on the processor."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=registered(), requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        super().__init__()
        self.held = held

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)  # type: ignore[attr-defined,no-any-return]

    @data.setter
    def data(self, value: There) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {NAME} device type tensor to numpy. Use Tensor.cpu()")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees what makes tensors out of none, and what moves them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, There)]
    strangers = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.dim()]
    if ours and strangers and func not in TAKE_INDICES_OF_OTHERS:
        raise RuntimeError(f"{func}: expected all tensors on the same device, found {NAME}:0 and {strangers[0].device}")
    inner_args, inner_kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, There) else leaf, (args, kwargs))
    asked = kwargs.get("device")
    if asked is not None:
        inner_kwargs = inner_kwargs | {"device": torch.device("cpu")}
    found = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if torch.device(asked).type != NAME if asked is not None else not ours:
        return found
    known = {id(tensor.held): tensor for tensor in ours}  # what an operator changes in place stays the same tensor
    return tree_map(lambda leaf: known.get(id(leaf), There(leaf)) if isinstance(leaf, Tensor) else leaf, found)


@contextmanager
def another_device() -> Iterator[str]:
    """Its name, while it is there to compute on."""
    registered()
    plain = torch.tensor

    def tensor(data: Any, *, device: Any = None, **rest: Any) -> Tensor:  # it fills the memory itself, unseen
        here = device is None or torch.device(device).type != NAME
        return plain(data, device=device, **rest) if here else plain(data, **rest).to(device)

    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with patch("torch.tensor", tensor), _Everywhere():
            yield NAME
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
