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
    """Move `module` there, its convolution weights channels-last: the layout in which torch runs them fastest.

    Weights of volumes, of five axes, stay as they are: torch has no such layout for them.
    """
    module = module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def to_batch(images: npt.NDArray[np.float32], device: torch.device) -> Tensor:
    """A batch of images (n, ., ., .) on `device`, laid out as `prepared_for` lays out the weights."""
    batch = torch.from_numpy(images).to(device)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def usable_batch(
    module: GraphModule, spec: TensorSpec, wanted: int, *, fixed: int | None, size: Size = DEFAULT_SIZE
) -> int:
    """`wanted`, or the file's `fixed` batch where the module does not answer images in other batches as in that one.

    The module is told then (`takes`), and fills up shorter batches.
    """
    if fixed is None or _takes_any(module, spec, fixed, size):
        return wanted
    module.takes = fixed
    return fixed


def _takes_any(module: GraphModule, spec: TensorSpec, fixed: int, size: Size) -> bool:
    """Whether two images, or half of the fixed batch, get the answers that they get in the fixed batch."""
    device = next(module.parameters()).device
    shape = (max(fixed, 2), *spec.fixed(1, size)[1:])
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    module.eval()
    try:
        with torch.no_grad():
            usual = torch.cat([module(images[i : i + fixed]) for i in range(0, len(images), fixed)])
            few = images if fixed == 1 else images[: fixed // 2]
            other = module(few)
    except (CrispError, RuntimeError):  # a Reshape to the fixed batch
        return False
    if other.ndim < 2 or len(other) != len(few):  # the rows of images run together
        return False
    usual = usual[: len(other)]
    return usual.shape == other.shape and torch.allclose(usual, other, rtol=1e-3, atol=1e-5)
