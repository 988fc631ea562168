"""ResNet-18 for images of 32x32 in torch, of any width, with the names that the shared ONNX file has."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

STAGES, BLOCKS = 4, 2


class Block(nn.Module):
    """Two convolutions, and a projection where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.down: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.down = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.down(x))


class ResNet18(nn.Module):
    """Four stages of two blocks, `width` channels in the first and twice as many in each further one."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        blocks, inside = [], width
        for stage in range(STAGES):
            for place in range(BLOCKS):
                outside = width << stage
                blocks.append(Block(inside, outside, 2 if stage and not place else 1))
                inside = outside
        self.layers, self.fc = nn.Sequential(*blocks), nn.Linear(inside, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.layers(functional.relu(self.bn(self.stem(x)))).mean((2, 3)))
        return found
