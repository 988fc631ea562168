"""Write a convolution whose kernel is nearly a sum over windows as just that: a sum-pool, then a smaller kernel.

A kernel k wide that is built of a core of k - n + 1 weights, each spread over n neighbours, answers as the core does on
the sums of n neighbours (structured convolutions, arXiv 2008.02454), at (1 - (n - 1) / k)^2 of the MACs in two
dimensions. The core is the kernel's least-squares projection; the residual says what the kernel is besides. Channels
are not pooled: sums over windows of channels would leave tensors that no runtime lays out well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.model import fresh_name, used_names
from crisp_onnx.passes.result import Declined, PassResult, constant

Floats = npt.NDArray[np.floating]
EXPLICIT = ("", "NOTSET")


@dataclass(frozen=True)
class Split:
    """`node`: the convolution. `residual`: |W - projected W| / |W|. `share`: of its MACs, without those of the pool."""

    node: str
    residual: float
    share: float


class SplitSums:
    """AveragePool, then a smaller Conv, in the place of some convolutions.

    `windows`: by node name, the side of the window to sum over. `most`: the largest residual; where it is 0 nothing but
    kernels that are such sums is split. `split`: what was, once the pass ran.
    """

    name = "split_sums"

    def __init__(self, windows: Mapping[str, int], most: float) -> None:
        self.windows, self.most = windows, most
        self.split: tuple[Split, ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        taken, found, declined = used_names(graph), [], []
        for node in [node for node in graph.nodes if node.op == "Conv" and node.name in self.windows]:
            window = self.windows[node.name]
            refusal = _refusal(node, window)
            if not refusal:
                core, residual = core_of(node.inputs[1].values, window)
                if residual > self.most:
                    refusal = f"{100 * residual:.1f} % of its kernel is no sum over windows of {window}"
            if refusal:
                declined.append(Declined(self.name, node.name, refusal))
                continue
            found.append(Split(node.name, residual, core.size / node.inputs[1].values.size))
            _split(graph, node, core, window, taken)
        self.split = tuple(found)
        return PassResult(len(found), tuple(declined))


def core_of(weight: Floats, window: int) -> tuple[Floats, float]:
    """The core (Cout, Cin, ...) of a kernel (Cout, Cin, ...), `window` - 1 shorter along each side; the residual."""
    core: Floats = weight.astype(np.float64)
    for axis in range(2, weight.ndim):
        core = _along(np.linalg.pinv(_spread(weight.shape[axis], window)), core, axis)
    projected = core
    for axis in range(2, weight.ndim):
        projected = _along(_spread(weight.shape[axis], window), projected, axis)
    norm = float(np.linalg.norm(weight))
    residual = float(np.linalg.norm(weight - projected)) / norm if norm else 0.0
    return core, residual


def _spread(length: int, window: int) -> Floats:
    """(length, length - window + 1): the places of a kernel that each weight of the core is spread over."""
    places = np.arange(length)[:, None] - np.arange(length - window + 1)[None]
    return ((places >= 0) & (places < window)).astype(np.float64)


def _along(matrix: Floats, tensor: Floats, axis: int) -> Floats:
    return np.moveaxis(np.tensordot(matrix, tensor, (1, axis)), 0, axis)


def _refusal(node: gs.Node, window: int) -> str:
    if not constant(node.inputs[1]):
        return "its weight is computed, not stored"
    sides = node.inputs[1].values.shape[2:]
    if not 1 < window <= min(sides):
        return f"a window of {window} does not fit into a kernel of {'x'.join(map(str, sides))}"
    if any(step != 1 for step in node.attrs.get("dilations", ())):
        return "its kernel is dilated"
    if node.attrs.get("auto_pad", "") not in EXPLICIT:
        return "its padding is not in numbers"
    return ""


def _split(graph: gs.Graph, conv: gs.Node, core: Floats, window: int, taken: set[str]) -> None:
    weight, sides = conv.inputs[1], conv.inputs[1].values.ndim - 2
    pads = [int(pad) for pad in conv.attrs.get("pads", [0] * 2 * sides)]
    # A window that lies in the padding alone sums to 0: more padding than a pool takes is the smaller kernel's.
    inside = [min(pad, window - 1) for pad in pads]
    pooled = gs.Variable(fresh_name(taken, f"{conv.name}.pooled"), conv.inputs[0].dtype)
    attributes = {"kernel_shape": [window] * sides, "strides": [1] * sides, "pads": inside, "count_include_pad": 1}
    graph.nodes.append(
        gs.Node("AveragePool", fresh_name(taken, f"{conv.name}.pool"), attributes, [conv.inputs[0]], [pooled])
    )
    stored = (core * window**sides).astype(weight.values.dtype)
    conv.inputs[0] = pooled
    conv.inputs[1] = gs.Constant(fresh_name(taken, f"{weight.name}.core"), stored)
    conv.attrs["kernel_shape"] = list(core.shape[2:])
    conv.attrs["pads"] = [pad - own for pad, own in zip(pads, inside, strict=True)]
