"""How alike two tensors are over images: linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
SMALLEST = 1e-30


def linear_cka(x: Floats, y: Floats) -> float:
    """Of features (n, p) and (n, q) of the same n images: 1 where one is a rotation and a multiple of the other.

    |Y^T X|^2 / (|X^T X| |Y^T Y|) of centred features, by the Gram matrices (n, n), as features outnumber images.
    """
    one, other = (_gram(features) for features in (x, y))
    return float((one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), SMALLEST))


def _gram(features: Floats) -> npt.NDArray[np.float64]:
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    gram: npt.NDArray[np.float64] = centred @ centred.T
    return gram
