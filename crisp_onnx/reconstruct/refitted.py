"""What a reconstruction comes to."""

from __future__ import annotations

from dataclasses import dataclass

from crisp_onnx.masks import Plan
from crisp_onnx.reconstruct.layer_fit import LayerFit


@dataclass(frozen=True)
class Refitted:
    """`plan`: the one whose masks the module has now. `fits`: how layers were re-fitted, in the order of the graph."""

    plan: Plan
    fits: tuple[LayerFit, ...] = ()
