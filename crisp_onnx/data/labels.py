"""Names of a model's outputs: what they are, and how they go together with the outputs."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

SYNSET = re.compile(r"[nvar]\d{8}")
NUMBER = re.compile(r"[+-]?\d{1,9}")
MAX_DIGITS = 9
MAX_LITERAL = 1 << 20
MAX_LABELS = 1 << 19
"""Outputs that can be named: more than any classifier has."""
KEYS = ("names", "labels", "classes", "class_names", "label_names", "id2label", "idx_to_class")
"""Where exporters and configurations keep the names of the outputs."""
# The same said the other way round: index by name.
INVERSE = ("label2id", "class_to_idx", "class_indices")
QUOTED = re.compile(r'"(?P<name>(?:[^"]|"")*)"')
"""A name in double quotes; one inside of it is written twice."""
BACKGROUND = 1
"""Outputs that classifiers have beside those that label files name."""


@dataclass(frozen=True)
class Label:
    """The synset id (empty when unknown) and the names of one output, the usual name first.

    `whole`: the text that the names were taken out of, where that is a name too ("salt,pepper"). `row`: the line of a
    label file, which may be copied into a class list.
    """

    wnid: str
    names: tuple[str, ...]
    whole: str = ""
    row: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.wnid


@dataclass(frozen=True)
class Labels:
    """What each output stands for: `entries[index]`. `source` says where the names come from.

    `of_data`: they are those of a data set and not of the model, so that their order is an assumption.
    """

    entries: Mapping[int, Label]
    source: str
    of_data: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        """The usual name of an output, or its whole text where another output has the same usual name."""
        label = self.entries.get(index)
        if label is None:
            return str(index)
        alone = len(self._usual.get(folded(label.name), ())) == 1
        return label.name if alone or not label.whole else label.whole

    def candidates(self, word: str) -> tuple[int, ...]:
        """Every output that `word` may be; case, spaces and underscores do not matter.

        The outputs whose synset id, whole text or usual name it is go before those that it is a further name of.
        """
        key = folded(word)
        first = dict.fromkeys((*self._whole.get(key, ()), *self._usual.get(key, ())))
        return tuple(first) or self._further.get(key, ())

    @cached_property
    def numbers(self) -> Mapping[int, tuple[int, ...]]:
        """Outputs by the number that is their last name, as folders 1 to 12 or 0, 90, 180 and 270 name them.

        Empty where not every output has one.
        """
        last = {index: label.names[-1] if label.names else "" for index, label in self.entries.items()}
        found: dict[int, list[int]] = {}
        for index, name in last.items():
            if not NUMBER.fullmatch(name):
                return {}
            found.setdefault(int(name), []).append(index)
        return {number: tuple(indices) for number, indices in found.items()}

    @cached_property
    def from_one(self) -> bool:
        """Whether the outputs are named 1 to n: another number is then no index either, as it may count from 1 too."""
        return sorted(self.numbers) == list(range(1, len(self.entries) + 1))

    @cached_property
    def _whole(self) -> dict[str, tuple[int, ...]]:
        return self._by_name(lambda label: (label.wnid, label.whole, ", ".join(label.names), label.row))

    @cached_property
    def _usual(self) -> dict[str, tuple[int, ...]]:
        return self._by_name(lambda label: label.names[:1])

    @cached_property
    def _further(self) -> dict[str, tuple[int, ...]]:
        return self._by_name(lambda label: label.names)

    def _by_name(self, names: Callable[[Label], Iterable[str]]) -> dict[str, tuple[int, ...]]:
        found: dict[str, dict[int, None]] = {}
        for index, label in self.entries.items():
            for word in filter(None, names(label)):
                found.setdefault(folded(word), {})[index] = None
        return {word: tuple(indices) for word, indices in found.items()}


def folded(word: str) -> str:
    """The form in which names are compared: macOS writes é in two characters, a class list in one."""
    return " ".join(unicodedata.normalize("NFC", shown(word)).replace("_", " ").split()).casefold()


def require_few(count: int, where: str) -> None:
    """Refuse more names than any model has outputs, before anything is made of them.

    Raises:
        CrispError: there are more than 524,288 in `where`.
    """
    if count > MAX_LABELS:
        raise CrispError(
            f"{where} holds {count:,} entries, and at most {MAX_LABELS:,} outputs can be named. Shorten it."
        )


def is_index(text: str) -> bool:
    """Whether text is a whole number from 0 on, of a length that an output can have."""
    return text.isdecimal() and len(text) <= MAX_DIGITS


def labels_from_names(names: Iterable[str], source: str) -> Labels:
    """Labels of a data set's class names, in the order of the outputs. A comma in such a name is a part of it."""
    return Labels({index: _whole_label(name) for index, name in enumerate(names)}, source, of_data=True)


def aligned(labels: Labels, outputs: int, offset: int | None) -> Labels:
    """`labels` moved by `offset` outputs; without one, they must name the outputs of the model and no others.

    Raises:
        CrispError: there are more or fewer names than outputs, none falls on an output, or some fall beside them while
            outputs go without.
    """
    if offset is None:
        wrong = misfit(labels, outputs)
        if wrong:
            raise CrispError(f"{wrong}, so names and outputs do not go together. {remedy(labels, outputs)}")
        return labels
    moved = {index + offset: label for index, label in labels.entries.items() if 0 <= index + offset < outputs}
    if not moved:
        raise CrispError(
            f"With --labels-offset {offset}, no name of {labels.source} falls on one of the {outputs} outputs. "
            "Give another number."
        )
    lost = [index for index in labels.entries if index + offset not in moved]
    bare = [index for index in range(outputs) if index not in moved]
    if lost and bare:
        raise CrispError(
            f"With --labels-offset {offset}, {len(lost)} of the {len(labels)} names of {labels.source} fall on no "
            f"output, {labels.name(lost[0])!r} first, while output {bare[0]} has none. Give another number."
        )
    return replace(labels, entries=moved)


def misfit(labels: Labels, outputs: int) -> str:
    """Why the names cannot be those of a model with so many outputs, or an empty string.

    Rows with an index of their own may leave outputs out, but not at the end: those are rows that count from 0 for a
    model that has one output more.
    """
    first, last = min(labels.entries), max(labels.entries)
    counted = len(labels) == last - first + 1
    if first >= 0 and last < outputs and (len(labels) == outputs or first > 0 or not counted):
        return ""
    rows = f"output {last}" if last >= outputs and not (counted and first == 0) else f"{len(labels)} outputs"
    return f"{labels.source} names {rows}, but the model has {outputs}"


def remedy(labels: Labels, outputs: int) -> str:
    """What to do about labels that do not fit the outputs."""
    first, last = min(labels.entries), max(labels.entries)
    shift = outputs - 1 - last
    if first > 0 and len(labels) == outputs:
        return f"If it counts from {first}, pass --labels-offset {-first}."
    if abs(shift) > BACKGROUND:
        return "Give the label file of this model: one name an output, in their order or with their indices."
    if shift > 0:
        return (
            f"If its first name is that of output {first + shift}, as where output 0 is background, pass "
            f"--labels-offset {shift}; if it is that of output {first}, --labels-offset 0."
        )
    return (
        f"If its first name is of no output, as background may be, pass --labels-offset {shift}; if its last is, "
        "--labels-offset 0."
    )


def label_of(fields: Sequence[str], row: str = "") -> Label:
    """A label of fields that may hold a synset id, alone or before the names, and names separated by commas.

    `row`: the line of a label file that they stand in.
    """
    wnid = ""
    names: dict[str, None] = {}
    texts = []
    for one in fields:
        first, _, rest = one.strip().partition(" ")
        if not wnid and SYNSET.fullmatch(first):
            wnid, text = first, rest
        else:
            text = one
        names.update((shown(name.strip()), None) for name in text.split(",") if name.strip())
        texts.append(shown(text.strip()))
    whole = ", ".join(filter(None, texts))
    return Label(wnid, tuple(names), whole if "," in whole else "", row)


def _whole_label(name: str) -> Label:
    """A label of one name, whatever is in it, behind a synset id or not."""
    first, _, rest = name.strip().partition(" ")
    if SYNSET.fullmatch(first):
        return Label(first, (shown(rest.strip()),) if rest.strip() else ())
    return Label("", (shown(name.strip() or name),))


def unquoted(text: str) -> str | None:
    """The name that is written in double quotes; None for other text."""
    match = QUOTED.fullmatch(text)
    return None if match is None else match["name"].replace('""', '"')


def literal(text: str) -> object:
    """The value of a JSON or Python literal, or None."""
    for parse in (json.loads, ast.literal_eval) if len(text) <= MAX_LITERAL else (json.loads,):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def entries_of(value: object) -> dict[int, Label]:
    """Labels by output from a list of names or a dict of index to name or name to index; empty if it is neither.

    An index that stands twice makes it neither.
    """
    if isinstance(value, Mapping):
        pairs = list(value.items())
        by_name = not all(is_index(str(key)) for key in value) and all(is_index(str(index)) for index in value.values())
        if by_name or (pairs and all(isinstance(index, int) for _, index in pairs)):
            pairs = [(index, name) for name, index in pairs]
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        return {}
    entries: dict[int, Label] = {}
    for index, name in pairs:
        fields = name if isinstance(name, (list, tuple)) else [name]
        if not is_index(str(index)) or not fields or not all(isinstance(field, str) for field in fields):
            return {}
        entries[int(index)] = label_of(fields)
    return entries if len(entries) == len(pairs) else {}
