"""What a source of images holds, before only the user's classes are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.images import Images, Indices, Store
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.errors import CrispError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """Row i of `store` is an image of output `outputs[i]`, shaped (n,); -1 where it is none of the model's outputs.

    `source` names the images in messages; `hint` ends the message about a class without images; `notes` say what is
    read in a way that the user should know of.
    """

    store: Store
    outputs: Indices
    source: str
    left_out: tuple[str, ...] = ()
    hint: str = ""
    notes: tuple[str, ...] = ()

    def keep(self, classes: Classes, preprocess: Preprocess) -> Images:
        """The images of the user's classes.

        Raises:
            CrispError: a class has no images.
        """
        rows = np.flatnonzero(np.isin(self.outputs, classes.indices))
        left_out = self.left_out
        if len(rows) < len(self.outputs):
            left_out = (*left_out, f"{len(self.outputs) - len(rows)} images of no wanted class")
        present = set(self.outputs[rows].tolist())
        empty = [
            name if name == str(index) else f"{index} ({name})"
            for index, name in zip(classes.indices, classes.names, strict=True)
            if index not in present
        ]
        if empty:
            named = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
            raise CrispError(
                f"There are no images of class {named} in {self.source}. Add some, or take it off the class list."
                + self.hint
            )
        for reason in left_out:
            log.info("left out of %s: %s", self.source, reason)
        return Images(self.store, rows, self.outputs[rows], preprocess, self.source, left_out, self.notes)
