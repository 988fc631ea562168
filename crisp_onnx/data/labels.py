"""Names of a model's outputs: read from a label file, a data set's class names, or a model's metadata."""

from __future__ import annotations

import ast
import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import read_text, shown

log = logging.getLogger(__name__)

SYNSET = re.compile(r"[nvar]\d{8}")
METADATA_KEYS = ("names", "labels", "classes", "class_names", "id2label")


@dataclass(frozen=True)
class Label:
    """The synset id (empty when unknown) and the names of one output, the usual name first."""

    wnid: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.wnid


@dataclass(frozen=True)
class Labels:
    """What each output stands for: `entries[index]`. `source` says where the names come from."""

    entries: Mapping[int, Label]
    source: str

    def __len__(self) -> int:
        return len(self.entries)

    def candidates(self, word: str) -> tuple[int, ...]:
        """Every output that has `word` as a name or synset id; case, spaces and underscores do not matter."""
        return self._outputs.get(folded(word), ())

    @cached_property
    def _outputs(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, dict[int, None]] = {}
        for index, label in self.entries.items():
            for word in (label.wnid, *label.names, ", ".join(label.names)):
                if word:
                    found.setdefault(folded(word), {})[index] = None
        return {word: tuple(indices) for word, indices in found.items()}


def folded(word: str) -> str:
    """The form in which names are compared: macOS writes é in two characters, a class list in one."""
    return " ".join(unicodedata.normalize("NFC", shown(word)).replace("_", " ").split()).casefold()


def labels_from_names(names: Iterable[str], source: str) -> Labels:
    """Labels of a list in the order of the outputs, for example the class names of a data set."""
    return Labels({index: _label([name]) for index, name in enumerate(names)}, source)


def read_labels(path: Path) -> Labels:
    """Read plain lines (one output a line), `index<TAB>[wnid<TAB>]names[, names]`, or a JSON list or object.

    Raises:
        CrispError: the file cannot be read, is empty, or a line does not fit; the message has file and line.
    """
    text = read_text(path, "label file")
    if path.suffix.lower() == ".json":
        entries = _entries(_literal(text))
        if not entries:
            raise CrispError(f"{path} holds no names: a JSON list, or an object of output index to name, is needed.")
        return Labels(entries, str(path))
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise CrispError(f"The label file {path} is empty. Write one name a line, in the order of the model's outputs.")
    tabbed = any("\t" in line for line in lines if not line.startswith("#"))
    return Labels(_tabbed(lines, path) if tabbed else _plain(lines, path), str(path))


def labels_from_metadata(metadata: Mapping[str, str]) -> Labels | None:
    """The names that an exporter left in the model's metadata, or None.

    Understood under the keys `names`, `labels`, `classes`, `class_names` and `id2label`: a JSON or Python list or
    dict, or names separated by newlines or commas.
    """
    by_key = {key.casefold(): text for key, text in metadata.items()}
    for key in METADATA_KEYS:
        text = by_key.get(key, "").strip()
        if not text:
            continue
        value = _literal(text)
        entries = _entries(re.split(r"\n" if "\n" in text else ",", text) if value is None else value)
        if len(entries) > 1:
            return Labels(entries, f"the model's metadata ({key})")
        log.debug("metadata %r holds no class names", key)
    return None


def _plain(lines: Sequence[str], path: Path) -> dict[int, Label]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise CrispError(
                f"{path}, line {number} is blank. Each line names one output in order, so a gap would shift the rest."
            )
    return {index: _label([line]) for index, line in enumerate(lines)}


def _tabbed(lines: Sequence[str], path: Path) -> dict[int, Label]:
    entries: dict[int, Label] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        index, *rest = (field.strip() for field in line.split("\t"))
        if not index.isdecimal() or not any(rest):
            raise CrispError(f"{path}, line {number}: {line!r} is not `index<TAB>synset<TAB>names`. Correct the line.")
        if int(index) in entries:
            raise CrispError(f"{path}, line {number}: output {index} is named a second time. Delete one of the lines.")
        entries[int(index)] = _label(rest)
    return entries


def _label(fields: Sequence[str]) -> Label:
    """A label of fields that may hold a synset id, alone or before the names, and names separated by commas."""
    wnid = ""
    names: dict[str, None] = {}
    for field in fields:
        first, _, rest = field.strip().partition(" ")
        if not wnid and SYNSET.fullmatch(first):
            wnid, text = first, rest
        else:
            text = field
        names.update((shown(name.strip()), None) for name in text.split(",") if name.strip())
    return Label(wnid, tuple(names))


def _literal(text: str) -> object:
    """The value of a JSON or Python literal, or None."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _entries(value: object) -> dict[int, Label]:
    """Labels by output from a list of names or a dict of index to name or name to index; empty if it is neither."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if pairs and all(isinstance(index, int) for _, index in pairs):
            pairs = [(index, name) for name, index in pairs]
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        return {}
    entries: dict[int, Label] = {}
    for index, name in pairs:
        fields = name if isinstance(name, (list, tuple)) else [name]
        if not str(index).isdecimal() or not fields or not all(isinstance(field, str) for field in fields):
            return {}
        entries[int(index)] = _label(fields)
    return entries
