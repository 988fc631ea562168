"""Batches for the torch module: how many images it takes at once, and how they lie in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.errors import CrispError
from crisp_onnx.model import DEFAULT_SIZE, Size, TensorSpec


def prepared_for(device: torch.device, module: GraphModule) -> GraphModule:
    """Move `module` there, its convolution weights channels-last: the layout in which torch runs them fastest."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def to_batch(images: npt.NDArray[np.float32], device: torch.device) -> Tensor:
    """A batch of images (n, ., ., .) on `device`, laid out as `prepared_for` lays out the weights."""
    batch = torch.from_numpy(images).to(device)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def usable_batch(module: GraphModule, spec: TensorSpec, wanted: int, *, size: Size = DEFAULT_SIZE) -> int:
    """`wanted`, or the batch fixed in the file when the module does not answer two images as it answers each alone."""
    fixed = spec.shape[0] if spec.shape else None
    if fixed is None or fixed >= wanted:
        return wanted if fixed is None else fixed
    device = next(module.parameters()).device
    one = torch.randn(spec.fixed(1, size), generator=torch.Generator().manual_seed(0)).to(device)
    both = torch.cat([one, one * 0.5] * fixed)
    module.eval()
    try:
        with torch.no_grad():
            together = module(both)
            alone = torch.cat([module(both[i : i + fixed]) for i in range(0, len(both), fixed)])
    except (CrispError, RuntimeError):  # a Reshape to the fixed batch
        return fixed
    same = together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-5)
    return wanted if same else fixed
