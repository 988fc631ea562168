"""Re-estimate BatchNorm statistics for the weights as they now are: the first thing that masks put wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images

IMAGES = 1024


def reestimate(
    module: GraphModule,
    images: Images,
    *,
    transform: Callable[[Tensor, int], Tensor] | None = None,
    batch_size: int = 128,
    limit: int = IMAGES,
) -> bool:
    """Average the batch statistics of at most `limit` images; False without BatchNorm.

    The mean over batches of equal size, not a moving one: every image counts alike. After training, `transform` should
    be the training's own augmentation, given images and how many the whole batch has: images learnt by heart give
    narrower activations than new ones do.
    """
    if not module.statistics:
        return False
    device = next(module.parameters()).device
    count = min(limit, len(images))
    size = min(batch_size, max(2, count // 4), count)
    places = np.random.default_rng(0).permutation(len(images))[: max(1, count // size) * size]
    whole, size = size, len(range(size)[module.processes.share(size)])
    places = module.processes.share_of_batches(places, whole)
    module.train()
    module.bn_momentum = None
    with torch.no_grad():
        for inputs, _ in images.batches(size, order=places):
            batch = torch.from_numpy(inputs)
            module((batch if transform is None else transform(batch, whole)).to(device))
    module.bn_momentum = 0.1
    module.eval()
    return True
