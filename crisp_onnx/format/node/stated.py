"""What a hybrid node says of its layer: the pattern, the shape, the window, the bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from crisp_onnx.format.operators import DOMAIN, Operator
from crisp_onnx.format.pattern import Pattern

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """How a convolution walks: strides and dilations (vertical, horizontal), pads (top, left, bottom, right)."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def out_sides(self, sides: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the output, from those of the input and the kernel."""
        down, right = (
            (sides[axis] + self.pads[axis] + self.pads[axis + 2] - (kernel[axis] - 1) * self.dilations[axis] - 1)
            // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        return down, right

    @property
    def attributes(self) -> dict[str, list[int]]:
        return {"strides": list(self.strides), "pads": list(self.pads), "dilations": list(self.dilations)}


@dataclass(frozen=True)
class HybridNode:
    """What a hybrid node says, whether it was read or is to be written.

    `shape`: (Cout, Cin, kh, kw) of the weight. `window`: None for a matrix product. `lower`, `upper`: bounds of the
    result, infinite where there are none.
    """

    operator: Operator
    pattern: Pattern
    shape: Shape
    window: Window | None = None
    lower: float = -math.inf
    upper: float = math.inf

    @property
    def attributes(self) -> dict[str, Any]:
        """What the node carries in the file."""
        p = self.pattern
        whole = {"n": p.n, "m": p.m, "block": p.block, "vector_rows": p.vector_rows, "index_bits": p.index_bits}
        window = self.window.attributes if self.window else {}
        return {
            **whole, "weight_shape": list(self.shape), **window,
            "lower": float(self.lower), "upper": float(self.upper),
        }  # fmt: skip

    def proto(self, name: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
        """The node as the file holds it. `inputs`: names in the order of the operator's slots."""
        return helper.make_node(self.operator.name, inputs, [output], name=name, domain=DOMAIN, **self.attributes)
