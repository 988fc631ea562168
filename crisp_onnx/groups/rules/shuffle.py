"""Channel shuffle: Reshape, Transpose and Reshape that together only reorder one axis."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.groups.ties import Ints, NodeTies

_MOST_ELEMENTS = 10_000_000


def shuffle_chain(first: gs.Node, shapes: Mapping[str, tuple[int, ...]], shown: Container[str]) -> tuple[gs.Node, ...]:
    """The three nodes from `first` on whose result has the shape that they began with; empty where it is no such chain.

    What lies between them has no other reader, and is not among the graph's outputs, `shown`.
    """
    chain = [first]
    while len(chain) < 3:
        readers = chain[-1].outputs[0].outputs
        if len(readers) != 1 or readers[0].inputs[0] is not chain[-1].outputs[0]:
            return ()
        chain.append(readers[0])
    if [node.op for node in chain] != ["Reshape", "Transpose", "Reshape"]:
        return ()
    ends = [shapes.get(tensor.name, ()) for tensor in (first.inputs[0], *(node.outputs[0] for node in chain))]
    whole = bool(ends[0]) and ends[0] == ends[-1] and ends[0] != ends[1] and np.prod(ends[0]) <= _MOST_ELEMENTS
    hidden = not any(node.outputs[0].name in shown for node in chain[:-1])
    return tuple(chain) if whole and hidden and all(ends) else ()


def shuffle(chain: tuple[gs.Node, ...], ties: NodeTies) -> None:
    """Ties of the whole chain, where every axis comes out as itself in some order."""
    x, y = chain[0].inputs[0], chain[-1].outputs[0]
    for node in chain:
        for told in node.inputs[1:]:
            ties.ignore(told)
    orders = shuffled_orders(chain, ties.shape(x), ties.shape(chain[0].outputs[0]))
    if not orders:
        ties.reason = "it mixes axes"
    for axis, order in enumerate(orders):
        ties.tie((x, axis, order), (y, axis, np.arange(len(order))))


def shuffled_orders(chain: tuple[gs.Node, ...], shape: tuple[int, ...], inner: tuple[int, ...]) -> tuple[Ints, ...]:
    """For each axis of the result, the index that each of its indices had; empty where the chain mixes axes.

    `shape`: of what it reads and gives; `inner`: of what its first Reshape gives.
    """
    perm = [int(axis) for axis in chain[1].attrs.get("perm", range(len(inner) - 1, -1, -1))]
    orders = [_order(shape, inner, perm, axis) for axis in range(len(shape))]
    return tuple(order for order in orders if order is not None) if all(o is not None for o in orders) else ()


def _order(shape: tuple[int, ...], inner: tuple[int, ...], perm: list[int], axis: int) -> Ints | None:
    """For every index along `axis` of the result, the index that it had; None where it depends on other axes."""
    spread = [-1 if place == axis else 1 for place in range(len(shape))]
    numbers: npt.NDArray[np.int64] = np.broadcast_to(np.arange(shape[axis]).reshape(spread), shape)
    moved = numbers.reshape(inner).transpose(perm).reshape(shape)
    order: Ints = moved[tuple(slice(None) if place == axis else 0 for place in range(len(shape)))]
    return order if np.array_equal(moved, np.broadcast_to(order.reshape(spread), shape)) else None
