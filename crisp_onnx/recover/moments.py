"""Mean and variance of the outputs of convolutions over the user's images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images

IMAGES = 512


def output_moments(
    module: GraphModule, outputs: Mapping[str, str], images: Images, *, batch_size: int = 64, limit: int = IMAGES
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Mean and variance (channels,) of each tensor (n, channels, h, w). `outputs`: tensor name by key of the result."""
    device = next(module.parameters()).device
    places = np.random.default_rng(0).permutation(len(images))[:limit]
    sums = {key: (np.zeros(1), np.zeros(1)) for key in outputs}
    count: dict[str, int] = dict.fromkeys(outputs, 0)
    module.eval()
    with torch.no_grad():
        for inputs, _ in images.batches(batch_size, order=places):
            tensors = module.run({module.input_names[0]: to_batch(inputs, device)}, list(outputs.values()))
            for key, name in outputs.items():
                values = tensors[name].double()
                axes = [axis for axis in range(values.ndim) if axis != 1]
                total, squares = sums[key]
                sums[key] = (
                    total + values.sum(axes).cpu().numpy(),
                    squares + values.square().sum(axes).cpu().numpy(),
                )
                count[key] += values.numel() // values.shape[1]
    means = {key: sums[key][0] / count[key] for key in outputs}
    return {key: (means[key], np.maximum(sums[key][1] / count[key] - means[key] ** 2, 0.0)) for key in outputs}
