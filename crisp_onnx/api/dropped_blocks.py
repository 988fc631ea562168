"""What a file's metadata says of the residual blocks that were left out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from crisp_onnx.format import DOMAIN
from crisp_onnx.report.findings import BlockFound

BLOCKS = f"{DOMAIN}.blocks"
NAMED = 5


def blocks_stamp(metadata: Mapping[str, str], dropped: Iterable[BlockFound]) -> dict[str, str]:
    """An entry for the metadata: the nodes and MACs of each block that went, and what it did on the images.

    Blocks that went before, as `metadata` says, stay in it.
    """
    told = {
        block.name: {
            "nodes": block.nodes, "macs": block.macs, "cka": round(block.cka, 6), "moved": round(block.moved, 6)
        }
        for block in dropped
    }  # fmt: skip
    return {BLOCKS: json.dumps({**_read(metadata), **told})}


def blocks_told(metadata: Mapping[str, str]) -> str:
    """What the metadata says, in a sentence; empty where it says nothing."""
    dropped = _read(metadata)
    try:
        listed = [f"{name} {100 * float(block['moved']):.3g} %" for name, block in list(dropped.items())[:NAMED]]
    except (KeyError, ValueError, TypeError):
        return ""
    if not listed:
        return ""
    names = ", ".join(listed) + (", ..." if len(dropped) > NAMED else "")
    return f"Residual blocks were left out, without which the answers move by so much of their spread: {names}."


def _read(metadata: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """Empty where there is no entry, or none that can be read."""
    try:
        found = json.loads(metadata[BLOCKS])
        return {str(name): dict(block) for name, block in found.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
