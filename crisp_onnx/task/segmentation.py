"""`Segmentation`: every pixel has a class of its own, so that a row of scores is that of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from crisp_onnx.task.classification import Array, Classification


@dataclass(frozen=True)
class Segmentation(Classification):
    """As a classification, but with a row for each pixel of the model's answers, image by image and line by line.

    `grid`: height and width of the answers, which may be coarser than the images. `class_axis`: the axis of the
    answers (n, C, h, w) or (n, h, w, C) along which classes lie.

    Background is a class like any other: it counts where the user's list names it. Pixels of no class of that list are
    neither learnt nor judged.
    """

    grid: tuple[int, int] = (1, 1)
    class_axis: int = 1

    @property
    def name(self) -> str:
        return "segmentation"

    @property
    def suggested(self) -> tuple[int, ...]:
        """All: a picture of the user's classes shows other ones too."""
        return self.columns

    def rows(self, answers: Array) -> Array:
        """Answers (n, C, h, w) or (n, h, w, C) as rows (n h w, C), which stay as they are."""
        if answers.ndim == 2:
            return answers
        last = answers.swapaxes(1, 2).swapaxes(2, 3) if self.class_axis == 1 else answers
        return last.reshape(-1, last.shape[-1])

    def truths(self, labels: Array) -> Array:
        """Labels (n, H, W) of the images' pixels as those of the rows (n h w,): of the pixel in the middle of each."""
        if labels.ndim == 1:
            return labels
        height, width = self.grid
        if tuple(labels.shape[1:]) != self.grid:
            labels = labels[:, _middles(labels.shape[1], height)][:, :, _middles(labels.shape[2], width)]
        return labels.reshape(-1)

    def mirrored(self, answers: Array) -> Array:
        """The answers with left and right exchanged."""
        axis = 3 if self.class_axis == 1 else 2
        places = [*range(answers.shape[axis])][::-1]
        return answers[:, :, :, places] if axis == 3 else answers[:, :, places]


def _middles(fine: int, coarse: int) -> list[int]:
    """The places among `fine` ones that lie in the middle of each of `coarse` ones."""
    return [(2 * place + 1) * fine // (2 * coarse) for place in range(coarse)]
