"""A vision transformer and a U-Net as torch exports them: answers, gradients, and compilation without a break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from crisp_onnx.bridge import compare_with_runtime, to_torch, write_back
from crisp_onnx.model import Model, load, weight_layers

Export = Callable[[str, bool], tuple[Model, nn.Module]]
EXPORTS = [(kind, dynamo) for kind in ("VisionTransformer", "UNet") for dynamo in (False, True)]


@pytest.mark.parametrize(("kind", "dynamo"), EXPORTS)
def test_an_export_answers_as_the_runtime_and_as_its_source(torch_export: Export, kind: str, dynamo: bool) -> None:
    model, source = torch_export(kind, dynamo)
    module = to_torch(model)
    assert compare_with_runtime(module, model, batches=(1, 3)) < 1e-5
    assert compare_with_runtime(module, write_back(module, model)) < 1e-5
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(module(images), source(images), atol=1e-5)


@pytest.mark.parametrize(("kind", "dynamo"), EXPORTS)
def test_gradients_reach_every_weight_and_are_those_of_the_source(
    torch_export: Export, kind: str, dynamo: bool
) -> None:
    model, source = torch_export(kind, dynamo)
    module = to_torch(model)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    module(images).square().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    layers = [layer.weight for layer in weight_layers(model)]
    assert len(layers) >= 6
    for name in layers:
        assert gradients[name] is not None and gradients[name].abs().sum() > 0, name  # type: ignore[union-attr]
    source.zero_grad()
    source(images).square().sum().backward()
    for name, parameter in source.named_parameters():
        if name in gradients and name in layers:
            assert torch.allclose(gradients[name], parameter.grad, rtol=1e-3, atol=1e-3), name  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "dynamo"), EXPORTS)
def test_an_export_compiles_without_a_graph_break_at_any_batch(torch_export: Export, kind: str, dynamo: bool) -> None:
    module = to_torch(torch_export(kind, dynamo)[0])
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for batch in (2, 3, 5):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(compiled(images), module(images), atol=1e-6)


def test_a_training_step_compiles_in_one_piece_and_new_masks_keep_it(shared_data: Path) -> None:
    module = to_torch(load(shared_data / "models" / "resnet18w32_cifar100.onnx")).train()
    weights = {name: p for name, p in module.named_parameters() if p.ndim == 4}
    random = torch.Generator().manual_seed(0)
    module.set_masks({name: torch.rand(w.shape, generator=random) > 0.5 for name, w in weights.items()})
    torch.compiler.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    images = torch.randn(4, 3, 32, 32, generator=random)
    for _ in range(2):
        compiled(images).sum().backward()
        module.set_masks({name: torch.rand(w.shape, generator=random) > 0.5 for name, w in weights.items()})
    assert counter.frame_count == 1
    module.eval(), compiled.eval()
    with torch.no_grad():
        assert torch.allclose(compiled(images), module(images), atol=1e-4)
