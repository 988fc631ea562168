"""Hold out a part of the training images, the same share of every class, and take whole batches of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.images import Images
from crisp_onnx.errors import CrispError


def hold_out(images: Images, fraction: float = 0.15, *, seed: int = 0) -> tuple[Images, Images]:
    """Split into (rest, held out), stratified by class; the same seed gives the same split.

    A class of two images or more stands on both sides; a single image stays with the rest. Which of a class are held
    out does not depend on the other classes. Both keep the order of `images`. Images without labels are split as one
    class.

    Raises:
        CrispError: the fraction is not between 0 and 1, or there is nothing to hold out.
    """
    if not 0 < fraction < 1:
        raise CrispError(f"A share of {fraction} cannot be held out. Give a number between 0 and 1, for example 0.15.")
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    held = np.zeros(len(images), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            continue
        count = min(max(1, round(fraction * len(places))), len(places) - 1)
        random = np.random.default_rng((seed, int(label)))
        held[random.permutation(places)[:count]] = True
    if not held.any():
        raise CrispError(
            f"{images.source} has only one image a class; none can be held out. Give two a class at least."
        )
    return images.subset(np.flatnonzero(~held)), images.subset(np.flatnonzero(held))


def whole_batches(places: npt.NDArray[np.int64], size: int | None) -> npt.NDArray[np.int64]:
    """The places in whole batches of `size`, None for any: without the last few, or again from the first."""
    return places if size is None else np.resize(places, max(size, len(places) // size * size))
