"""Ten well-known topologies as torch modules, so that other tools can be asked about the very same network.

Needs torch alone. Shapes are the published ones, weights what torch starts from; `scale` makes every width narrower by
the same factor and leaves the topology as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 1000
MAPS = 21


@dataclass(frozen=True)
class Topology:
    """`build`: the module, its widths times a scale. `side`: of its images. `last`: names of the layers that answer."""

    build: Callable[[float], nn.Module]
    side: int
    last: tuple[str, ...]


def wide(channels: int, scale: float) -> int:
    """So many channels, a multiple of 8."""
    return max(8, round(channels * scale / 8) * 8)


def conv(
    cin: int, cout: int, kernel: int | tuple[int, int] = 1, stride: int = 1, *, groups: int = 1,
    act: Callable[[], nn.Module] | None = nn.ReLU, pad: bool = True,
) -> nn.Sequential:  # fmt: skip
    """Convolution, BatchNorm and activation, with as much padding as keeps the size at stride 1."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(side // 2 for side in sides) if pad else 0
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, sides, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(cout)
    ]  # fmt: skip
    return nn.Sequential(*layers, *([act()] if act else []))


class Pooled(nn.Module):
    """Features, their mean over all positions, and one linear layer."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Residual(nn.Module):
    """Two branches that are added up; the second may be nothing but the input."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, *, relu: bool = False) -> None:
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut or nn.Identity(), relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x) + self.shortcut(x)
        return functional.relu(y) if self.relu else y


class Joined(nn.Module):
    """Branches of one input, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def resnet50(scale: float) -> nn.Module:
    """He et al. 2015 (arXiv 1512.03385), table 1."""
    cin = wide(64, scale)
    layers: list[nn.Module] = [conv(3, cin, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for base, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        inner, outer = wide(base, scale), wide(4 * base, scale)
        for block in range(blocks):
            stride = first if block == 0 else 1
            branch = nn.Sequential(conv(cin, inner), conv(inner, inner, 3, stride), conv(inner, outer, act=None))
            layers.append(Residual(branch, None if block else conv(cin, outer, 1, stride, act=None), relu=True))
            cin = outer
    return Pooled(nn.Sequential(*layers), cin)


def vgg19(scale: float) -> nn.Module:
    """Simonyan and Zisserman 2014 (arXiv 1409.1556), configuration E."""
    layers: list[nn.Module] = []
    cin = 3
    for base, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layers += [nn.Conv2d(cin, wide(base, scale), 3, padding=1), nn.ReLU()]
            cin = wide(base, scale)
        layers.append(nn.MaxPool2d(2))
    hidden = wide(4096, scale)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(49 * cin, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, CLASSES),
    )  # fmt: skip


class Dense(nn.Module):
    """What a DenseNet's layer adds to all that came before it."""

    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(cin)
        self.inner, self.outer = conv(cin, 4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.outer(self.inner(functional.relu(self.norm(x))))], 1)


def densenet121(scale: float) -> nn.Module:
    """Huang et al. 2016 (arXiv 1608.06993), table 1."""
    growth, cin = wide(32, scale), wide(64, scale)
    layers: list[nn.Module] = [conv(3, cin, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for number, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            layers.append(Dense(cin, growth))
            cin += growth
        layers += [nn.BatchNorm2d(cin), nn.ReLU()]
        if number < 3:
            layers += [nn.Conv2d(cin, cin // 2, 1, bias=False), nn.AvgPool2d(2)]
            cin //= 2
    return Pooled(nn.Sequential(*layers), cin)


def mobilenet_v2(scale: float) -> nn.Module:
    """Sandler et al. 2018 (arXiv 1801.04381), table 2."""
    cin = wide(32, scale)
    layers: list[nn.Module] = [conv(3, cin, 3, 2, act=nn.ReLU6)]
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, base, blocks, first in stages:
        for block in range(blocks):
            stride, middle, cout = first if block == 0 else 1, cin * expand, wide(base, scale)
            branch = nn.Sequential(
                *([conv(cin, middle, act=nn.ReLU6)] if expand > 1 else []),
                conv(middle, middle, 3, stride, groups=middle, act=nn.ReLU6), conv(middle, cout, act=None),
            )  # fmt: skip
            layers.append(Residual(branch) if block else branch)
            cin = cout
    last = wide(1280, scale)
    return Pooled(nn.Sequential(*layers, conv(cin, last, act=nn.ReLU6)), last)


class Excite(nn.Module):
    """Squeeze and excitation: a factor for each channel out of the means of all."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(functional.silu(self.squeeze(mean))))


def efficientnet_b0(scale: float) -> nn.Module:
    """Tan and Le 2019 (arXiv 1905.11946), table 1."""
    cin = wide(32, scale)
    layers: list[nn.Module] = [conv(3, cin, 3, 2, act=nn.SiLU)]
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    for expand, base, blocks, first, kernel in stages:
        for block in range(blocks):
            stride, middle, cout = first if block == 0 else 1, cin * expand, wide(base, scale)
            branch = nn.Sequential(
                *([conv(cin, middle, act=nn.SiLU)] if expand > 1 else []),
                conv(middle, middle, kernel, stride, groups=middle, act=nn.SiLU),
                Excite(middle, max(1, cin // 4)), conv(middle, cout, act=None),
            )  # fmt: skip
            layers.append(Residual(branch) if block else branch)
            cin = cout
    last = wide(1280, scale)
    return Pooled(nn.Sequential(*layers, conv(cin, last, act=nn.SiLU)), last)


def inception_v3(scale: float) -> nn.Module:
    """Szegedy et al. 2015 (arXiv 1512.00567), without the auxiliary classifier."""

    def w(channels: int) -> int:
        return wide(channels, scale)

    def chain(cin: int, *steps: tuple[int, int | tuple[int, int]]) -> tuple[nn.Sequential, int]:
        made: list[nn.Module] = []
        for cout, kernel in steps:
            made.append(conv(cin, w(cout), kernel))
            cin = w(cout)
        return nn.Sequential(*made), cin

    def pooled(cin: int, cout: int) -> tuple[nn.Sequential, int]:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(cin, w(cout))), w(cout)

    def halved(cin: int, *steps: tuple[int, int | tuple[int, int]]) -> tuple[nn.Sequential, int]:
        *before, (cout, _) = steps
        made, width = chain(cin, *before)
        return nn.Sequential(made, conv(width, w(cout), 3, 2, pad=False)), w(cout)

    def forked(cin: int, *steps: tuple[int, int | tuple[int, int]]) -> tuple[nn.Sequential, int]:
        made, width = chain(cin, *steps)
        sides = [conv(width, w(384), kernel) for kernel in ((1, 3), (3, 1))]
        return nn.Sequential(made, Joined(*sides)), 2 * w(384)

    stem = [conv(3, w(32), 3, 2, pad=False), conv(w(32), w(32), 3, pad=False), conv(w(32), w(64), 3),
            nn.MaxPool2d(3, 2), conv(w(64), w(80)), conv(w(80), w(192), 3, pad=False), nn.MaxPool2d(3, 2)]  # fmt: skip
    layers, cin = list[nn.Module](stem), w(192)

    def add(*branches: tuple[nn.Module, int]) -> None:
        nonlocal cin
        layers.append(Joined(*(branch for branch, _ in branches)))
        cin = sum(width for _, width in branches)

    for out in (32, 64, 64):
        add(chain(cin, (64, 1)), chain(cin, (48, 1), (64, 5)), chain(cin, (64, 1), (96, 3), (96, 3)), pooled(cin, out))
    add(halved(cin, (384, 3)), halved(cin, (64, 1), (96, 3), (96, 3)), (nn.MaxPool2d(3, 2), cin))
    for middle in (128, 160, 160, 192):
        row, column = (1, 7), (7, 1)
        add(
            chain(cin, (192, 1)), chain(cin, (middle, 1), (middle, row), (192, column)),
            chain(cin, (middle, 1), (middle, column), (middle, row), (middle, column), (192, row)), pooled(cin, 192),
        )  # fmt: skip
    add(
        halved(cin, (192, 1), (320, 3)), halved(cin, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)),
        (nn.MaxPool2d(3, 2), cin),
    )  # fmt: skip
    for _ in range(2):
        add(chain(cin, (320, 1)), forked(cin, (384, 1)), forked(cin, (448, 1), (384, 3)), pooled(cin, 192))
    return Pooled(nn.Sequential(*layers), cin)


class Shuffled(nn.Module):
    """A unit of ShuffleNetV2: half of the channels, or at stride 2 all, go through a branch; then both are shuffled."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, cout // 2
        inside = cin if stride == 2 else half
        self.main = nn.Sequential(
            conv(inside, half), conv(half, half, 3, stride, groups=half, act=None), conv(half, half)
        )  # fmt: skip
        self.side = nn.Sequential(conv(cin, cin, 3, 2, groups=cin, act=None), conv(cin, half)) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.side is None:
            kept, used = x.chunk(2, 1)
            joined = torch.cat([kept, self.main(used)], 1)
        else:
            joined = torch.cat([self.side(x), self.main(x)], 1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v2(scale: float) -> nn.Module:
    """Ma et al. 2018 (arXiv 1807.11164), table 5, the network of 1x."""
    cin = wide(24, scale)
    layers: list[nn.Module] = [conv(3, cin, 3, 2), nn.MaxPool2d(3, 2, 1)]
    for base, blocks in ((116, 4), (232, 8), (464, 4)):
        cout = base if scale == 1 else wide(base, scale)
        for block in range(blocks):
            layers.append(Shuffled(cin, cout, 1 if block else 2))
            cin = cout
    last = wide(1024, scale)
    return Pooled(nn.Sequential(*layers, conv(cin, last)), last)


class Fire(nn.Module):
    """SqueezeNet's module: narrow, then 1x1 and 3x3 beside each other."""

    def __init__(self, cin: int, narrow: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, narrow, 1)
        self.one, self.three = nn.Conv2d(narrow, expand, 1), nn.Conv2d(narrow, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.one(x)), functional.relu(self.three(x))], 1)


def squeezenet(scale: float) -> nn.Module:
    """Iandola et al. 2016 (arXiv 1602.07360), version 1.1."""
    cin = wide(64, scale)
    layers: list[nn.Module] = [nn.Conv2d(3, cin, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    for number, (narrow, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        layers.append(Fire(cin, wide(narrow, scale), wide(expand, scale)))
        cin = 2 * wide(expand, scale)
        if number in (1, 3):
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    return nn.Sequential(
        *layers, nn.Dropout(), nn.Conv2d(cin, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class UNet(nn.Module):
    """Ronneberger et al. 2015 (arXiv 1505.04597), padded, so that skips need no cutting."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.enter = _twice(3, widths[0])
        self.down = nn.ModuleList(_twice(narrow, broad) for narrow, broad in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(broad, narrow, 2, 2) for narrow, broad in pairs[::-1])
        self.join = nn.ModuleList(_twice(2 * narrow, narrow) for narrow, _ in pairs[::-1])
        self.out = nn.Conv2d(widths[0], MAPS, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.enter(x)]
        for stage in self.down:
            levels.append(stage(functional.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for rise, stage in zip(self.up, self.join, strict=True):
            x = stage(torch.cat([levels.pop(), rise(x)], 1))
        return self.out(x)


def _twice(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(conv(cin, cout, 3), conv(cout, cout, 3))


class Attention(nn.Module):
    """Attention with query, key and value out of one layer, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.shape[:2]
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        seen = ((q * self.each**-0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(seen.transpose(1, 2).reshape(batch, length, -1))


class ViT(nn.Module):
    """Dosovitskiy et al. 2020 (arXiv 2010.11929), ViT-B/16."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) / math.sqrt(width))
        self.place = nn.Parameter(torch.randn(1, 197, width) / math.sqrt(width))
        made: list[nn.Module] = []
        for _ in range(blocks):
            mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            made += [Residual(nn.Sequential(nn.LayerNorm(width), Attention(width, heads))),
                     Residual(nn.Sequential(nn.LayerNorm(width), mlp))]  # fmt: skip
        self.blocks = nn.Sequential(*made)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


def unet(scale: float) -> nn.Module:
    return UNet([wide(width, scale) for width in (64, 128, 256, 512, 1024)])


def vit_b16(scale: float) -> nn.Module:
    width = wide(768, scale)
    return ViT(width, 12 if width % 12 == 0 else 4, 12)


TOPOLOGIES: Mapping[str, Topology] = MappingProxyType(
    {
        "ResNet-50": Topology(resnet50, 224, ("head",)),
        "VGG-19": Topology(vgg19, 224, ("42",)),
        "DenseNet-121": Topology(densenet121, 224, ("head",)),
        "MobileNetV2": Topology(mobilenet_v2, 224, ("head",)),
        "EfficientNet-B0": Topology(efficientnet_b0, 224, ("head",)),
        "Inception-v3": Topology(inception_v3, 299, ("head",)),
        "ShuffleNetV2": Topology(shufflenet_v2, 224, ("head",)),
        "SqueezeNet": Topology(squeezenet, 224, ("14",)),
        "U-Net": Topology(unet, 224, ("out",)),
        "ViT-B/16": Topology(vit_b16, 224, ("head",)),
    }
)
