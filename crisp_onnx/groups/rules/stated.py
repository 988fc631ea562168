"""Lengths that a graph states: a stored list, or a Concat of stored numbers and of lengths that it asks for."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def stated_at(tensor: gs.Tensor, place: int) -> gs.Constant | None:
    """The stored tensor that holds the length at that place of a list of lengths; None where it is computed."""
    if isinstance(tensor, gs.Constant):
        return tensor
    found = next((piece for first, size, piece in pieces(tensor) if first <= place < first + size), None)
    return found if isinstance(found, gs.Constant) else None


def pieces(tensor: gs.Tensor) -> list[tuple[int, int, gs.Tensor]]:
    """(first place, places, tensor) of each piece of a Concat, as far as their sizes are known."""
    if not tensor.inputs or tensor.inputs[0].op != "Concat":
        return []
    found, first = [], 0
    for piece in tensor.inputs[0].inputs:
        size = _size(piece)
        if size is None:
            break
        found.append((first, size, piece))
        first += size
    return found


def _size(piece: gs.Tensor) -> int | None:
    if isinstance(piece, gs.Constant):
        return int(np.asarray(piece.values).size)
    picked = piece.inputs and piece.inputs[0].op == "Gather" and piece.inputs[0].inputs[1]
    return int(picked.values.size) if isinstance(picked, gs.Constant) and picked.values.ndim == 1 else None


def stated_axes(node: gs.Node, rank: int) -> set[int] | None:
    """The axes among `rank` that an attribute or the second input names, none if neither does; None: computed."""
    told = tuple(node.attrs.get("axes", ()))
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        named = node.inputs[1]
        if not isinstance(named, gs.Constant):
            return None
        told = tuple(named.values.reshape(-1))
    return {int(axis) % rank for axis in told}
