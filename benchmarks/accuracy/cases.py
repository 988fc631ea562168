"""The rows of each accuracy table: which model, which classes, how sparse, by which means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from benchmarks.real_data import EVERY

RESNET, MOBILENET_1, MOBILENET_2 = "resnet18w32_cifar100", "mobilenetv1_imagenet", "mobilenetv2_imagenet"
SETS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """One call of `compress`. `set`: seed of the `drawn` classes, 0 for Imagenette's. `images`: real or synthesised.

    `sparsity`: of the layers that become sparse. `macs`, `speedup`: a budget in its place, where it is 0. A row without
    a budget is the ceiling, the dense model fine-tuned by the same recipe.

    `learnt`: whether it learns from images of the `user`'s classes, or from as many of `all` classes and is judged on
    the user's. `layout`: how blocks are scored, by the format's own layout, as CRISP's public code does, or by their
    place alone in a `static pattern`. `emit`: how the file is written; patterns that have no packed operator are
    written dense.
    """

    model: str
    set: int
    sparsity: float
    saliency: str = "crisp"
    allocation: str = "error"
    masks: str = "alps"
    pattern: str = "2:4"
    block: int = 16
    vector_rows: int = 8
    images: str = "real"
    learnt: str = "user"
    reorder: bool = True
    reconstruct: str = "least-squares"
    recovery: str = "fixed"
    first_finetune: int = 0
    epochs: int = 0
    layout: str = "format"
    emit: str = "hybrid"
    method: str = "hybrid"
    macs: float | None = None
    speedup: float | None = None
    widths: str | None = None
    round_channels: int = 8
    seed: int = 0
    drawn: int = 10

    @property
    def is_ceiling(self) -> bool:
        """Whether nothing is pruned."""
        return not (self.sparsity or self.macs or self.speedup)

    @property
    def words(self) -> frozenset[str]:
        """All of it as `name=value`."""
        return frozenset(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    @property
    def key(self) -> str:
        """What results are kept under: what has no default, and what is not at its default."""
        told = (field for field in fields(self) if getattr(self, field.name) != field.default)
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in told)

    @property
    def ceiling(self) -> Case:
        """The dense model fine-tuned by the same recipe, on the same images."""
        return Case(
            self.model, self.set, 0.0, recovery=self.recovery, epochs=self.epochs, seed=self.seed, drawn=self.drawn
        )


def one_shot() -> Iterator[Case]:
    """No training: the default, on real images and on synthesised ones, then without each of its parts."""
    for sparsity in (0.75, 0.875):
        for number in SETS:
            yield Case(RESNET, number, sparsity)
    for number in SETS:
        yield Case(RESNET, number, 0.75, images="synthesised")
    mobile = [Case(MOBILENET_1, 0, 0.5), Case(MOBILENET_1, 0, 0.7), Case(MOBILENET_2, 0, 0.5)]
    yield from mobile
    bases = [Case(RESNET, number, sparsity) for sparsity in (0.75, 0.875) for number in SETS]
    for base in (*bases, *mobile):
        yield from without_each_part(base)


def without_each_part(base: Case) -> Iterator[Case]:
    """The case with other allocations, without masks chosen after the fit, and without any fit."""
    yield replace(base, allocation="saliency")
    yield replace(base, allocation="sensitivity")
    yield replace(base, allocation="search")
    yield replace(base, masks="saliency")
    yield replace(base, allocation="saliency", masks="saliency")
    yield replace(base, allocation="saliency", masks="saliency", reconstruct="none")


def baselines(epochs: int = 0) -> Iterator[Case]:
    """Others' ways to choose, with the same least squares, and ours with other criteria."""
    for number in SETS:
        ours = Case(RESNET, number, 0.875, epochs=epochs)
        plain = replace(ours, allocation="saliency", masks="saliency")
        yield ours
        yield replace(ours, masks="obs")
        yield from (replace(plain, saliency=name) for name in ("random", "magnitude", "wanda", "fisher", "crisp"))
        yield from (replace(plain, saliency=name) for name in ("act-l2", "firing"))
        yield replace(ours, learnt="all")
        yield replace(plain, learnt="all")
        yield replace(
            ours, pattern="1:1", block=1, vector_rows=1, reorder=False, emit="dense"
        )  # unstructured, rows balanced
        yield replace(ours, pattern="1:8", vector_rows=1)  # N:M alone: every block is kept
        yield replace(ours, pattern="4:4")  # blocks alone
        yield replace(plain, reorder=False)
        yield replace(plain, reorder=False, layout="public code")
        yield replace(plain, reorder=False, layout="static pattern")


def trained() -> Iterator[Case]:
    """Twenty epochs: the ceiling, the default, and the budget shared by saliency."""
    for sparsity in (0.875, 0.0, 0.92, 0.95):
        for number in SETS:
            yield Case(RESNET, number, sparsity, epochs=20)
    for number in SETS:
        yield Case(RESNET, number, 0.875, allocation="saliency", epochs=20)


def trained_longer() -> Iterator[Case]:
    """Sixty epochs: the ceiling and the default."""
    for number in SETS:
        for sparsity in (0.0, 0.95, 0.92, 0.875):
            yield Case(RESNET, number, sparsity, epochs=60)


def trained_patterns() -> Iterator[Case]:
    """Twenty epochs: who shares a choice of N:M, the side of blocks, and N:M itself."""
    for number in SETS:
        for pattern in ("2:4", "1:4"):
            for block in (16, 32):
                for rows in (8, 1):
                    yield Case(
                        RESNET, number, 0.875, pattern=pattern, block=block, vector_rows=rows, epochs=20
                    )  # the first of each set stands in `trained` too


def trained_classes() -> Iterator[Case]:
    """Twenty epochs for other numbers of classes than ten, each beside its ceiling."""
    for drawn in (2, 5, 20, 50, 100):
        for number in SETS if drawn < EVERY else (EVERY,):
            yield Case(RESNET, number, 0.875, epochs=20, drawn=drawn)
            yield Case(RESNET, number, 0.0, epochs=20, drawn=drawn)


def trained_mobilenets() -> Iterator[Case]:
    """Ten epochs, on the ten classes of Imagenette."""
    for model in (MOBILENET_1, MOBILENET_2):
        for sparsity in (0.0, 0.7, 0.5):
            yield Case(model, 0, sparsity, epochs=10)


def trained_baselines() -> Iterator[Case]:
    """The baselines after twenty epochs."""
    return baselines(epochs=20)


def channels() -> Iterator[Case]:
    """Fewer channels for ten classes, by the two ways to find widths; the short rows first."""
    for epochs, sets, shares in ((5, (0,), (0.5, 0.25, 0.1)), (20, SETS, (0.5, 0.25, 0.1, 0.05))):
        for number in sets:
            yield Case(RESNET, number, 0.0, epochs=epochs)
            for share in shares:
                for widths in ("saliency", "gates"):
                    yield Case(RESNET, number, 0.0, epochs=epochs, method="channels", macs=share, widths=widths)


def channels_one_shot() -> Iterator[Case]:
    """Fewer channels without any training: on real images, whose labels are not asked, and without any data."""
    for images in ("synthesised", "real"):
        for number in SETS:
            yield Case(RESNET, number, 0.0, method="channels", macs=0.5, images=images)


def channels_equal_time() -> Iterator[Case]:
    """Zeros, fewer channels, and both, each as many times as fast as the source on this host."""
    for number in SETS:
        for speedup in (2.0, 3.0, 4.0, 6.0):
            for method in ("hybrid", "channels", "channels+hybrid"):
                yield Case(RESNET, number, 0.0, epochs=20, method=method, speedup=speedup)


def channels_curve() -> Iterator[Case]:
    """All hundred classes, three seeds, beside channels chosen by magnitude; the short rows first."""
    for epochs, shares in ((3, (0.25, 0.5, 0.1, 0.05)), (10, (0.25, 0.5, 0.1, 0.05))):
        for share in shares:
            for seed in range(3):
                base = Case(RESNET, EVERY, 0.0, epochs=epochs, method="channels", macs=share, seed=seed)
                yield replace(base, widths="saliency")
                yield replace(base, widths="saliency", saliency="magnitude")
                if epochs > 3:
                    yield replace(base, widths="gates")


TABLES = {
    "one_shot": ("Without any training", one_shot),
    "baselines": ("Against other ways to choose, without any training", baselines),
    "trained": ("After twenty epochs", trained),
    "trained_longer": ("After sixty epochs", trained_longer),
    "trained_patterns": ("Patterns after twenty epochs", trained_patterns),
    "trained_classes": ("More and fewer classes, after twenty epochs", trained_classes),
    "trained_mobilenets": ("MobileNets after ten epochs", trained_mobilenets),
    "trained_baselines": ("Against other ways to choose, after twenty epochs", trained_baselines),
    "channels": ("Fewer channels", channels),
    "channels_one_shot": ("Fewer channels without any training", channels_one_shot),
    "channels_equal_time": ("Zeros, fewer channels, and both at equal time", channels_equal_time),
    "channels_curve": ("Fewer channels for all hundred classes", channels_curve),
}
