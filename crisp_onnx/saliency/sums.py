"""`Sums`: what is added up over images, with their number, so that shards of a data set and machines can be merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from torch import Tensor

from crisp_onnx.errors import CrispError


@dataclass(frozen=True, eq=False)
class Sums:
    """`totals`: sums over `images` images, by weight name."""

    totals: Mapping[str, Tensor]
    images: int

    def merge(self, other: Sums) -> Sums:
        """The sums over the images of both.

        Raises:
            CrispError: they are sums of different weights.
        """
        shapes = [{name: tuple(total.shape) for name, total in item.totals.items()} for item in (self, other)]
        if shapes[0] != shapes[1]:
            raise CrispError("These sums are of different weights, so they cannot be added up. Use sums of one model.")
        return Sums(
            {name: total + other.totals[name] for name, total in self.totals.items()}, self.images + other.images
        )

    def means(self) -> dict[str, Tensor]:
        """The mean over the images, by weight name."""
        return {name: total / self.images for name, total in self.totals.items()}


def merged(parts: Iterable[Sums]) -> Sums:
    """The sums over the images of all parts, one or more, added up in their order: the same parts, the same bits.

    Raises:
        CrispError: they are sums of different weights.
    """
    return reduce(Sums.merge, parts)
