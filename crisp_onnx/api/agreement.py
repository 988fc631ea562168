"""Whether every process, and a run that was stopped before, came to the same weights."""

from __future__ import annotations

import hashlib

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.bridge import GraphModule
from crisp_onnx.errors import CrispError
from crisp_onnx.recover import trained_tensors


def agree(module: GraphModule, checkpoint: Checkpoint, what: str) -> None:
    """Whether training starts from the same weights in all processes, and in the run that was stopped.

    Raises:
        CrispError: it does not.
    """
    found = _digest(module)
    if checkpoint.processes.told(found) != found:
        raise CrispError(
            "The processes of torchrun come to different weights before training. Use machines of one kind."
        )
    checkpoint.agree(what, found)


def _digest(module: GraphModule) -> str:
    """Of all weights and statistics, bit for bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in trained_tensors(module).items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
