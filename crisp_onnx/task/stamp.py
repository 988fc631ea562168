"""What a compressed file knows, stored in its metadata: the class of each column, names, and its preprocessing.

The graph runs without it. Whoever reads the answers needs it: a head that was cut down to some classes has columns that
only this names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from crisp_onnx.data import Classes, Label, Labels
from crisp_onnx.format import DOMAIN
from crisp_onnx.recipe import names_file
from crisp_onnx.task.classification import Classification

OUTPUT, COLUMNS, CLASSES = f"{DOMAIN}.output", f"{DOMAIN}.columns", f"{DOMAIN}.classes"
LABELS, PREPROCESS, TASK = f"{DOMAIN}.labels", f"{DOMAIN}.preprocess", f"{DOMAIN}.task"
SOURCE = "the compressed file"


@dataclass(frozen=True)
class Stamp:
    """`output` scores classes; `columns[i]` is the class of its column i; `classes`: the names of the user's.

    Classes are numbered by the outputs of the source model. `labels` names them, `preprocess` is text for
    `parse_preprocess`; None where they were not known. `task`: as `--task` has it.
    """

    output: str
    columns: tuple[int, ...]
    classes: Mapping[int, str]
    labels: Labels | None = None
    preprocess: str | None = None
    task: str = "classification"

    @property
    def column_labels(self) -> Labels | None:
        """The names by column, for a file that is taken as a model of its own."""
        if self.labels is None:
            return None
        known = self.labels.entries
        entries = {place: known[index] for place, index in enumerate(self.columns) if index in known}
        return Labels(entries, self.labels.source) if entries else None


def stamped(
    task: Classification, classes: Classes, *, labels: Labels | None = None, preprocess: str | None = None
) -> dict[str, str]:
    """Entries for the metadata."""
    entries = {
        TASK: task.name,
        OUTPUT: task.output,
        COLUMNS: json.dumps(task.columns),
        CLASSES: json.dumps(dict(zip(map(str, classes.indices), classes.names, strict=True))),
    }
    if labels is not None:
        rows = {str(index): [label.wnid, label.whole, *label.names] for index, label in labels.entries.items()}
        entries[LABELS] = json.dumps(rows)
    return entries | ({} if preprocess is None else {PREPROCESS: preprocess})


def read_stamp(metadata: Mapping[str, str]) -> Stamp | None:
    """The stamp of a file; None where there is none, or none that can be read."""
    try:
        columns = tuple(int(index) for index in json.loads(metadata[COLUMNS]))
        classes = {int(index): str(name) for index, name in json.loads(metadata[CLASSES]).items()}
        rows = json.loads(metadata.get(LABELS, "{}")).items()
        entries = {
            int(index): Label(str(wnid), tuple(map(str, names)), str(whole)) for index, (wnid, whole, *names) in rows
        }
        output, task = metadata[OUTPUT], metadata.get(TASK, "classification")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    sound = len(set(columns)) == len(columns) and min(columns, default=-1) >= 0
    if not sound or not classes or not set(classes) <= set(columns):
        return None
    labels = Labels(entries, SOURCE) if entries else None
    preprocess = metadata.get(PREPROCESS, "")
    if names_file(preprocess):  # whoever made the model could have any file of this machine opened
        preprocess = ""
    return Stamp(output, columns, classes, labels, preprocess or None, task)
