"""Small transformers and a small U-Net as torch exports them, by either of its two exporters."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisp_onnx.model import Model, load


class Block(nn.Module):
    """A transformer block with attention written out, as timm and others do."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class TorchTransformer(nn.Module):
    """With torch's own attention, in which heads and images share an axis; DETR and torchvision's ViT have it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class UNet(nn.Module):
    """Two levels; one goes up by a transposed convolution, the other by interpolation to the skip's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down, self.deep = self._stage(3, 8), self._stage(8, 16), self._stage(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.middle, self.leave = self._stage(32, 16), self._stage(24, 8)
        self.out = nn.Conv2d(8, 4, 1)

    def _stage(self, inside: int, outside: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(functional.max_pool2d(first, 2))
        third = self.deep(functional.avg_pool2d(second, 2))
        middle = self.middle(torch.cat([self.up(third), second], 1))
        wide = functional.interpolate(middle, size=first.shape[2:], mode="bilinear", align_corners=False)
        return self.out(self.leave(torch.cat([wide, first], 1)))


KINDS: dict[str, type[nn.Module]] = {kind.__name__: kind for kind in (VisionTransformer, TorchTransformer, UNet)}


def exported(kind: str, path: Path, *, dynamo: bool) -> tuple[Model, nn.Module]:
    """A model of that class (seeded, eval) and its file with an open batch."""
    torch.manual_seed(0)
    return _exported(KINDS[kind]().eval(), path, dynamo=dynamo)


def _exported(module: nn.Module, path: Path, *, dynamo: bool) -> tuple[Model, nn.Module]:
    image = torch.randn(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
            program = torch.onnx.export(
                module, (image,), dynamo=True, opset_version=20, dynamic_shapes=batch, verbose=False
            )
            onnx.save(program.model_proto, path)
        else:
            torch.onnx.export(
                module, (image,), str(path), dynamo=False, opset_version=17, input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
            )  # fmt: skip
    return load(path), module
