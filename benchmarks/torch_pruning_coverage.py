"""Ask Torch-Pruning which layers of a topology can lose channels; run by channel_coverage.py where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch_pruning
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.torch_topologies import TOPOLOGIES, Attention

KINDS = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)


def macs_of(model: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """MACs of one image, by layer."""
    found: dict[str, int] = {}

    def hook(name: str):  # type: ignore[no-untyped-def]
        def seen(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            tensor = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            channels = tensor.shape[1] if tensor.dim() == 4 else tensor.shape[-1]
            found[name] = tensor.numel() // channels * layer.weight.numel()

        return seen

    hooks = [m.register_forward_hook(hook(name)) for name, m in model.named_modules() if isinstance(m, KINDS)]
    with torch.no_grad():
        model(image)
    for one in hooks:
        one.remove()
    return found


def main(name: str, scale: float) -> None:
    topology = TOPOLOGIES[name]
    torch.manual_seed(0)
    model, image = topology.build(scale).eval(), torch.randn(1, 3, topology.side, topology.side)
    names = {module: place for place, module in model.named_modules()}
    last = [module for module, place in names.items() if place in topology.last]
    before, touched = macs_of(model, image), set()
    graph = torch_pruning.DependencyGraph().build_dependency(model, image)
    for group in graph.get_all_groups(ignored_layers=last, root_module_types=list(KINDS)):
        touched |= {names[item.target.module] for item, _ in group if isinstance(item.target.module, KINDS)}
    heads = {module.qkv: module.heads for module in model.modules() if isinstance(module, Attention)}
    pruner = torch_pruning.pruner.MagnitudePruner(
        model, image, importance=torch_pruning.importance.MagnitudeImportance(p=2), pruning_ratio=0.5,
        ignored_layers=last, num_heads=heads, prune_num_heads=bool(heads), head_pruning_ratio=0.5,
        root_module_types=list(KINDS),
    )  # fmt: skip
    pruner.step()
    for module in model.modules():
        if isinstance(module, Attention):
            module.heads = pruner.num_heads[module.qkv]
    after = macs_of(model, image)
    answer = {
        "layers": len(before), "covered": len(touched),
        "macs": sum(before[layer] for layer in touched) / sum(before.values()),
        "halved": sum(after.values()) / sum(before.values()),
    }  # fmt: skip
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
