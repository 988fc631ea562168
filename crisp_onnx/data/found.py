"""What a source of images holds, before only the user's classes are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.images import Images, Indices, InputForm, Store
from crisp_onnx.errors import CrispError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """`rows` (n,) of `store` are images of the outputs `outputs` (n,); -1 where it is none of the model's outputs.

    `outputs` is None where the source says nothing of classes. `source` names the images in messages; `hint` ends the
    message about a class without images; `notes` say what is read in a way that the user should know of.
    """

    store: Store
    rows: Indices
    outputs: Indices | None
    source: str
    left_out: tuple[str, ...] = ()
    hint: str = ""
    notes: tuple[str, ...] = ()

    def keep(self, classes: Classes, form: InputForm, *, each: bool = True) -> Images:
        """The images of the user's classes; all of them where they have no labels. `each` class must have some.

        Raises:
            CrispError: a class has no images, or there are none at all.
        """
        left_out, notes, rows, labels = self.left_out, self.notes, self.rows, self.outputs
        if self.outputs is None:
            notes = (f"The images of {self.source} have no labels: what the model itself answers is learnt.", *notes)
        else:
            wanted = np.isin(self.outputs, classes.indices)
            rows, labels = self.rows[wanted], self.outputs[wanted]
            if len(rows) < len(wanted):
                left_out = (*left_out, f"{len(wanted) - len(rows)} images of no wanted class")
            if each:
                self._check_present(set(labels.tolist()), classes)
        if not len(rows):
            raise CrispError(f"There are no images in {self.source}.{self.hint}")
        for reason in left_out:
            log.info("left out of %s: %s", self.source, reason)
        return Images(self.store, rows, labels, form, self.source, left_out, notes)

    def _check_present(self, present: set[int], classes: Classes) -> None:
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
