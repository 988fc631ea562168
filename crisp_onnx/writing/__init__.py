"""What every writer of results shares: inputs are kept, one writer at a time, and a folder switched in one step."""

import re
import secrets

from crisp_onnx.writing.guard import keep_inputs, require_name, require_place, require_possible
from crisp_onnx.writing.locks import HeldError, free, hold, locked
from crisp_onnx.writing.signals import stopping, undisturbed
from crisp_onnx.writing.switching import SWITCH, settle, switch, synced

HIDDEN = re.compile(r"\.crisp-[0-9a-f]{8}/")  # what a path of an unfinished file has more than that of the finished one

__all__ = [
    "HIDDEN",
    "SWITCH",
    "HeldError",
    "free",
    "hidden_name",
    "hold",
    "keep_inputs",
    "locked",
    "require_name",
    "require_place",
    "require_possible",
    "settle",
    "stopping",
    "switch",
    "synced",
    "undisturbed",
]


def hidden_name() -> str:
    """The name of a new folder for unfinished files, which no message shows."""
    return f".crisp-{secrets.token_hex(4)}"
