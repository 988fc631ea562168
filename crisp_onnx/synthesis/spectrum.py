"""Images as smooth noise: random frequencies that fall off as in photographs, in colours that mostly go together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CONTRAST = 0.45
# Amplitudes of photographs fall about as 1/f. A little steeper did as well where BatchNorm statistics are matched, and
# better where there are none.
FALL = 1.5
SHIFT = 0.1
# Photographs vary most in brightness; a red-green and a blue-yellow contrast are weaker.
COLOURS = ((1.0, 0.35, 0.0), (1.0, -0.07, 0.15), (1.0, -0.35, -0.25))


def random_frequencies(count: int, channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Coefficients (count, channels, h, w // 2 + 1, 2) of white noise; what synthesis moves in place of pixels."""
    height, width = size
    return CONTRAST * torch.randn(count, channels, height, width // 2 + 1, 2, generator=generator)


def to_pixels(coefficients: Tensor, size: tuple[int, int]) -> Tensor:
    """Coefficients (b, c, h, w // 2 + 1, 2) -> images (b, c, h, w) between 0 and 1.

    Amplitudes fall with the frequency as in natural images: a step of gradient descent then changes large shapes
    first, and no further smoothing is needed.
    """
    complex_values = torch.view_as_complex(coefficients) * _envelope(size, coefficients.device)
    planes = torch.fft.irfft2(complex_values, s=size, norm="ortho")
    if planes.shape[1] == 3:
        mix = torch.tensor(COLOURS, device=planes.device)
        planes = torch.einsum("rc,bchw->brhw", mix, planes)
    return torch.sigmoid(planes)


def halved(images: Tensor) -> Tensor:
    """Images (b, c, h, w) at half their sides."""
    size = (images.shape[2] // 2, images.shape[3] // 2)
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (b, c, h, w) moved by up to a tenth of their sides, borders reflected; half the time seen in a mirror."""
    height, width = images.shape[2:]
    rows, columns = int(SHIFT * height), int(SHIFT * width)
    top, left, mirror = torch.rand(3, generator=generator).tolist()
    y, x = round(top * 2 * rows), round(left * 2 * columns)
    padded = functional.pad(images, (columns, columns, rows, rows), mode="reflect")
    moved = padded[:, :, y : y + height, x : x + width]
    return moved.flip(3) if mirror < 0.5 else moved


def _envelope(size: tuple[int, int], device: torch.device) -> Tensor:
    """The fall of amplitudes with a mean square of 1, (h, w // 2 + 1)."""
    height, width = size
    rows = torch.fft.fftfreq(height, device=device)[:, None]
    columns = torch.fft.rfftfreq(width, device=device)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(size))
    envelope = frequency.pow(-FALL)
    scaled: Tensor = envelope / envelope.square().mean().sqrt()
    return scaled
