"""Preprocessing: from 8-bit pixels to the input of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.depth import Range
from crisp_onnx.data.pixels import Picture, Pixels, Resize, fit
from crisp_onnx.model.spec import Layout, Size

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Preprocess:
    """The input of a model is `(scale * x - mean) / std` of pixels x from 0 to 255, one mean and std a channel.

    `size` is (height, width); `resize` the short side in pixels before the centre crop, or height and width that it is
    squeezed to, None for just covering `size`; `resample` the way, a key of `pixels.RESAMPLING`. `order` is that of the
    channels. `range`: the samples that mean black and white in images of more than 8 bits, None for what their files
    say. `assumed` says why, where nobody gave the preprocessing. `dtype`: uint8 for a model that takes the pixels
    themselves, else float32.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: Size
    scale: float = 1 / 255
    layout: Layout = "NCHW"
    resize: Resize = None
    resample: str = "bicubic"
    order: Literal["rgb", "bgr"] = "rgb"
    range: Range | None = None
    dtype: np.dtype[np.generic] = FLOAT
    assumed: str = ""

    @property
    def channels(self) -> int:
        return len(self.mean)

    def fit(self, picture: Picture, reach: Range | None = None) -> Pixels:
        """Resize and crop one image to pixels (h, w, channels) in RGB order; `reach` as in `pixels.fit`."""
        return fit(picture, self.size, self.resize, self.channels, reach or self.range, self.resample)

    def normalise(self, pixels: Pixels) -> npt.NDArray[Any]:
        """Fitted pixels (b, h, w, channels) as the model's input: contiguous, in its layout and element type."""
        ordered = pixels[..., ::-1] if self.order == "bgr" else pixels
        if self.dtype == np.uint8:
            return np.ascontiguousarray(ordered if self.layout == "NHWC" else ordered.transpose(0, 3, 1, 2))
        factor, offset = self._affine()
        batch, height, width, channels = pixels.shape
        planes = (height, width, channels) if self.layout == "NHWC" else (channels, height, width)
        values = np.empty((batch, *planes), np.float32)
        last = values if self.layout == "NHWC" else values.transpose(0, 2, 3, 1)
        # A channel at a time: numpy's inner loop then runs over a row of the image, not over three channels.
        for channel in range(channels):
            plane = last[..., channel]
            np.multiply(ordered[..., channel], factor[channel], out=plane)
            plane += offset[channel]
        return values

    def pixels(self, values: npt.NDArray[Any]) -> Pixels:
        """The inverse of `normalise`, rounded and clipped to 0 to 255: pixels (b, h, w, channels)."""
        factor, offset = self._affine()
        last = values if self.layout == "NHWC" else values.transpose(0, 2, 3, 1)
        whole = np.rint((last - offset) / factor).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(whole[..., ::-1] if self.order == "bgr" else whole)

    def bounds(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The lowest and highest value of each input channel, two arrays (channels,)."""
        factor, offset = self._affine()
        return offset, 255 * factor + offset

    def describe(self) -> str:
        """Text that `parse_preprocess` reads back to the same values."""
        mean, std = ("/".join(map(repr, numbers)) for numbers in (self.mean, self.std))
        text = f"mean={mean},std={std},scale={self.scale!r},size={self.size[0]}x{self.size[1]}"
        if self.resize is not None:
            text += f",resize={self.resize}" if isinstance(self.resize, int) else ",resize={}x{}".format(*self.resize)
        text += f",resample={self.resample}" if self.resample != "bicubic" else ""
        text += f",range={self.range[0]!r}/{self.range[1]!r}" if self.range is not None else ""
        return text + (",order=bgr" if self.order == "bgr" else "")

    def _affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        std = np.array(self.std, np.float64)
        factor, offset = self.scale / std, -np.array(self.mean, np.float64) / std
        return factor.astype(np.float32), offset.astype(np.float32)
