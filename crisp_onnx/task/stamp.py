"""What a compressed file knows of its answers, stored in its metadata: which class each column is, and the names.

The graph runs without it. Whoever reads the answers needs it: a head that was cut down to some classes has columns that
only this names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from crisp_onnx.format import DOMAIN
from crisp_onnx.task.classification import Classification

OUTPUT, COLUMNS, CLASSES = f"{DOMAIN}.output", f"{DOMAIN}.columns", f"{DOMAIN}.classes"


@dataclass(frozen=True)
class Stamp:
    """`output` scores classes; `columns[i]` is the class of its column i; `classes`: the names of the user's.

    Classes are numbered by the outputs of the source model.
    """

    output: str
    columns: tuple[int, ...]
    classes: Mapping[int, str]


def stamped(task: Classification, names: tuple[str, ...]) -> dict[str, str]:
    """Entries for the metadata; `names` of the user's classes, in their order."""
    return {
        OUTPUT: task.output,
        COLUMNS: json.dumps(task.columns),
        CLASSES: json.dumps(dict(zip(map(str, task.wanted), names, strict=True))),
    }


def read_stamp(metadata: Mapping[str, str]) -> Stamp | None:
    """The stamp of a file; None where there is none, or none that can be read."""
    try:
        columns = json.loads(metadata[COLUMNS])
        classes = {int(index): str(name) for index, name in json.loads(metadata[CLASSES]).items()}
        found = Stamp(metadata[OUTPUT], tuple(int(index) for index in columns), classes)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    sound = len(set(found.columns)) == len(found.columns) and min(found.columns, default=-1) >= 0
    return found if sound and classes and set(classes) <= set(found.columns) else None
