"""Names that an exporter left in a model's metadata: reading them, and keeping them true when the outputs are cut."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence

from crisp_onnx.data.labels import INVERSE, KEYS, Label, Labels, entries_of, literal

# How many classes there are.
COUNTS = ("nc", "num_classes", "num_labels")


def labels_from_metadata(metadata: Mapping[str, str]) -> Labels | None:
    """The names that an exporter left in the model's metadata, or None.

    Understood under the keys `names`, `labels`, `classes`, `class_names` and `id2label`: a JSON or Python list or
    dict, or names separated by newlines or commas (in double quotes where a name holds one).
    """
    by_key = {key.casefold(): text for key, text in metadata.items()}
    for key in KEYS:
        entries = _names(by_key.get(key, ""))
        if len(entries) > 1:
            return Labels(entries, f"the model's metadata ({key})")
    return None


def cut_names(
    metadata: Mapping[str, str], indices: Sequence[int], outputs: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Entries that name the classes of a model with `outputs`, for one that keeps the outputs `indices` in that order.

    The second part are keys of names that do not fit the outputs, and so cannot be cut.
    """
    new: dict[str, str] = {}
    old: list[str] = []
    for key, text in metadata.items():
        folded = key.casefold()
        if folded in COUNTS and text.strip() == str(outputs):
            new[key] = str(len(indices))
        elif folded in (*KEYS, *INVERSE) and len(entries := _names(text)) > 1:
            if all(index in entries for index in indices) and max(entries) < outputs:
                new[key] = _written(text, [_text(entries[index]) for index in indices])
            else:
                old.append(key)
    return new, tuple(old)


def _names(text: str) -> dict[int, Label]:
    if not text.strip():
        return {}
    text = text.strip()
    value = literal(text)
    if value is None:
        value = text.split("\n") if "\n" in text else next(csv.reader([text], skipinitialspace=True))
    return entries_of(value)


def _text(label: Label) -> str:
    return " ".join(filter(None, (label.wnid, label.whole or ", ".join(label.names))))


def _written(old: str, names: list[str]) -> str:
    """Names of outputs 0, 1, ... in the way in which `old` is written."""
    value = literal(old)
    if isinstance(value, Mapping):
        by_name = all(isinstance(index, int) for index in value.values())
        textual = all(isinstance(index, str) for index in value)
        table: dict[object, object] = {
            (name if by_name else str(index) if textual else index): (index if by_name else name)
            for index, name in enumerate(names)
        }
        return json.dumps(table) if _is_json(old) else repr(table)
    if isinstance(value, (list, tuple)):
        return json.dumps(names) if _is_json(old) else repr(names)
    if "\n" in old.strip():
        return "\n".join(names)
    return ", ".join(f'"{name}"' if "," in name else name for name in names)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
