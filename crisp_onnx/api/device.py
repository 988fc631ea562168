"""The torch device that a recipe names."""

from __future__ import annotations

import torch

from crisp_onnx.errors import CrispError


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        CrispError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CrispError(f"--device {name} is not to be had here: {reason}. Use --device cpu.") from None
    return device
