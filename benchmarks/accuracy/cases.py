"""The rows of each accuracy table: which model, which classes, how sparse, by which means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

RESNET, MOBILENET_1, MOBILENET_2 = "resnet18w32_cifar100", "mobilenetv1_imagenet", "mobilenetv2_imagenet"
SETS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """One call of `compress`. `set`: seed of the classes, 0 for Imagenette's ten. `images`: real or synthesised."""

    model: str
    set: int
    sparsity: float
    saliency: str = "crisp"
    images: str = "real"
    reorder: bool = True
    reconstruct: str = "least-squares"
    recovery: str = "fixed"
    epochs: int = 0
    seed: int = 0

    @property
    def key(self) -> str:
        """All of it as text, which results are kept under."""
        return ", ".join(f"{name}={value}" for name, value in vars(self).items())


def one_shot() -> Iterator[Case]:
    """No training: with and without least squares, by two saliencies, on real images and on synthesised ones."""
    for number in SETS:
        for sparsity in (0.75, 0.875):
            base = Case(RESNET, number, sparsity)
            yield from (replace(base, reconstruct="none"), base, replace(base, saliency="magnitude"))
        yield Case(RESNET, number, 0.75, images="synthesised")
    for model, sparsities in ((MOBILENET_1, (0.5, 0.7)), (MOBILENET_2, (0.5,))):
        for sparsity in sparsities:
            base = Case(model, 0, sparsity)
            yield from (replace(base, reconstruct="none"), base, replace(base, saliency="magnitude"))


def trained() -> Iterator[Case]:
    """Twenty epochs."""
    for sparsity in (0.875, 0.92):
        for saliency in ("crisp", "magnitude"):
            for number in SETS:
                yield Case(RESNET, number, sparsity, saliency=saliency, epochs=20)


TABLES = {
    "one_shot": ("Without any training", one_shot),
    "trained": ("After twenty epochs", trained),
}
