"""Inner features that a student imitates: where they stand in the graph, how they are had, and their loss.

Distillation of features holds a sparse network to the dense one's road, block by block, not to its answers alone
(FitNets, arXiv 1412.6550). Masks keep all widths, so that the tensors compare as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from crisp_onnx.bridge import GraphModule, Node
from crisp_onnx.processes import ALONE, Processes

FEATURE_WEIGHT = 20.0
"""The best of 0, 5 and 20 for a ResNet-18 that keeps 8 % of its weights."""
SMALLEST = 1e-6
ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Gelu", "Elu", "Sigmoid", "Silu", "Mish"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


class Shown(nn.Module):
    """A graph that answers with its first output and then with some inner tensors.

    `picks`: by tensor, the axes of which only some indices are shown, and these.
    """

    def __init__(
        self,
        module: GraphModule,
        inner: Sequence[str],
        picks: Mapping[str, tuple[tuple[int, Tensor], ...]] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.names, self.picks = module, (module.output_names[0], *inner), picks or {}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.module.several(x, self.names)
        return tuple(self._picked(name, value) for name, value in zip(self.names, found, strict=True))

    def _picked(self, name: str, value: Tensor) -> Tensor:
        for axis, indices in self.picks.get(name, ()):
            value = value.index_select(axis, indices.to(value.device))
        return value


def block_ends(module: GraphModule) -> tuple[str, ...]:
    """The tensors in which blocks end, in the order of the graph: sums of two branches, behind their activation.

    A graph without such sums ends its blocks where its pictures become smaller or larger: in what pools, strided and
    transposed convolutions and Resize read.
    """
    computed = {name for node in module.nodes for name in node.outputs if name} | set(module.input_names)
    ends = []
    for node in module.nodes:
        if node.op == "Add" and len(set(node.inputs)) == 2 and computed.issuperset(node.inputs):
            ends.append(_behind_activation(module, node.outputs[0]))
    if not ends:
        ends = [node.inputs[0] for node in module.nodes if _scales(node) and node.inputs[0] in computed]
    outside = {*module.input_names, *module.output_names}
    return tuple(name for name in dict.fromkeys(ends) if name not in outside)


def feature_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], processes: Processes = ALONE, weight: float = 1.0
) -> Tensor:
    """Mean over the tensors of |s - t|^2 / |t|^2.

    `weight`: the share of the batch that this one of the `processes` has; |t|^2 is that of the whole batch.
    """
    shares = []
    for own, wanted in zip(student, teacher, strict=True):
        whole = processes.add(wanted.float().square().mean() * weight).clamp_min(SMALLEST)
        shares.append((own.float() - wanted.float()).square().mean() / whole)
    return torch.stack(shares).mean()


def _behind_activation(module: GraphModule, tensor: str) -> str:
    readers = [node for node in module.nodes if tensor in node.inputs]
    return readers[0].outputs[0] if len(readers) == 1 and readers[0].op in ACTIVATIONS else tensor


def _scales(node: Node) -> bool:
    strided = node.op in ("Conv", "ConvTranspose") and max(node.integers("strides", (1,))) > 1
    return strided or node.op in POOLS or node.op in ("Resize", "Upsample", "DepthToSpace")
