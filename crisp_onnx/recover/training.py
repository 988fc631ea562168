"""`Training`: how long and how recovery trains, and the choice of it for a module and its images."""

from __future__ import annotations

from dataclasses import dataclass

from crisp_onnx.bridge import GraphModule
from crisp_onnx.data import Images, Preprocess
from crisp_onnx.recover.mirror import mirror_safe
from crisp_onnx.recover.task import Task
from crisp_onnx.task import Segmentation

RATE, RATE_WITHOUT_BATCH_NORM = 0.05, 0.005
BATCH_OF_MAPS = 16
"""Images of a batch where every pixel is a row: as much to learn from, in more steps."""


@dataclass(frozen=True)
class Training:
    """`epochs` over the images in batches of `batch_size`, at a learning rate of at most `peak_rate`.

    `augments`: the images are pixels, which are shown shifted where they `shift`, and with `flip` mirrored. `patience`:
    epochs without a better answer to the `judged` images, which are not trained on, after which training ends.
    `keeps_statistics`: BatchNorm goes by the stored ones, not by those of the batch.
    """

    epochs: int
    batch_size: int = 64
    peak_rate: float = RATE
    weight_decay: float = 5e-4
    augments: bool = True
    shift: bool = True
    flip: bool = False
    channels_last_input: bool = False
    seed: int = 0
    patience: int | None = None
    judged: Images | None = None
    keeps_statistics: bool = False

    def steps_per_epoch(self, images: int) -> int:
        """Whole batches of that many images, at least one."""
        return max(1, images // self.batch_size)

    def steps(self, images: int) -> int:
        """Batches of the whole training."""
        return self.epochs * self.steps_per_epoch(images)


def training_for(
    module: GraphModule,
    images: Images,
    asked: Images,
    task: Task,
    epochs: int,
    *,
    batch_size: int,
    seed: int,
    patience: int | None = None,
) -> tuple[Training, tuple[str, ...]]:
    """The training of `module` on `images`, and what the user should know of it.

    `asked`: images that are not trained on, which decide whether mirror images mean the same and, with `patience`, when
    training ends. `batch_size`: the most that the module takes.
    """
    nhwc, pixels = images.preprocess.layout == "NHWC", isinstance(images.preprocess, Preprocess)
    flip = pixels and mirror_safe(module, asked, task, batch_size=batch_size, channels_last=nhwc)
    maps = isinstance(task.answers, Segmentation)
    most = BATCH_OF_MAPS if maps else batch_size
    training = Training(
        epochs,
        batch_size=min(batch_size, most, max(2, len(images) // 4)),
        peak_rate=RATE if module.statistics else RATE_WITHOUT_BATCH_NORM,
        augments=pixels,
        # A map is as much to learn from as thousands of labels. Borders that shifts bring in cost a U-Net at a tenth of
        # its MACs 1.5 points of mean IoU: what little it has goes into what it will never see.
        shift=not maps,
        flip=flip,
        channels_last_input=nhwc,
        seed=seed,
        patience=patience,
        judged=asked,
    )
    if not pixels:
        return training, ("Recovery shows rows of values as they are: only pixels are shifted and mirrored.",)
    verb = "mirrors" if flip else "does not mirror"
    return training, (f"Recovery {verb} images: the model's own answers to mirrored images decided that.",)
