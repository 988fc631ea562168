"""Names that an exporter left in a model's metadata: reading them, and keeping them true when the outputs are cut."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence

from crisp_onnx.data.labels import INVERSE, KEYS, Label, Labels, entries_of, literal
from crisp_onnx.format import DOMAIN

# How many classes there are.
COUNTS = ("nc", "num_classes", "num_labels", "n_classes", "num_class", "class_count", "classes_count", "label_count")
# In keys of lists that go by the outputs, whatever an exporter calls them.
WORDS = ("class", "label", "name", "categor")


def labels_from_metadata(metadata: Mapping[str, str]) -> Labels | None:
    """The names that an exporter left in the model's metadata, or None.

    Understood under the keys `names`, `labels`, `classes`, `class_names`, `id2label` and `label2id`: a JSON or Python
    list or dict, or names separated by newlines, semicolons or commas (in double quotes where a name holds one).
    """
    by_key = {key.casefold(): text for key, text in metadata.items()}
    for key in (*KEYS, *INVERSE):
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
        elif _tells_of_names(folded) and len(entries := _names(text)) > 1:
            if folded not in (*KEYS, *INVERSE) and len(entries) != outputs:
                continue  # a list of something else
            if all(index in entries for index in indices) and max(entries) < outputs:
                new[key] = _written(text, [_text(entries[index]) for index in indices])
            else:
                old.append(key)
        elif _tells_of_names(folded) and _entries(text) == outputs:
            old.append(key)
    return new, tuple(old)


def _tells_of_names(key: str) -> bool:
    return key in (*KEYS, *INVERSE) or (not key.startswith(DOMAIN) and any(word in key for word in WORDS))


def _names(text: str) -> dict[int, Label]:
    if not text.strip():
        return {}
    text = text.strip()
    value = literal(text)
    if value is None:
        separator = _separator(text)
        value = text.split(separator) if separator != "," else next(csv.reader([text], skipinitialspace=True))
    return entries_of(value)


def _entries(text: str) -> int:
    """How many entries a list has that holds more than names."""
    value = literal(text)
    return len(value) if isinstance(value, (list, tuple, Mapping)) else 0


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
    if (separator := _separator(old.strip())) != ",":
        return separator.join(names)
    return ", ".join(f'"{name}"' if "," in name else name for name in names)


def _separator(text: str) -> str:
    """What stands between names: a line's end, or semicolons where no commas do."""
    return "\n" if "\n" in text else ";" if ";" in text and "," not in text else ","


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
