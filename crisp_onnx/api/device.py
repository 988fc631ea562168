"""The torch device that a recipe names."""

from __future__ import annotations

import torch

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        CrispError: unknown, or not on this machine.
    """
    with border(f"--device {shown(name)} is not to be had here", "Use --device cpu."):
        device = torch.device(name)
        # Devices such as `meta` have tensors and no numbers in them.
        if torch.ones(2, device=device).sum().item() != 2:
            raise CrispError(f"--device {shown(name)} cannot compute. Use --device cpu.")
    return torch.device("cpu") if device.type == "cpu" else device
