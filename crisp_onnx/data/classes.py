"""The classes a user keeps: a short list of output indices, names or synset ids, resolved to the model's outputs."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crisp_onnx.data.labels import NUMBER, QUOTED, SYNSET, Labels, folded, require_few
from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.reading import line_count, read_text, shown

__all__ = ["Classes", "Labels", "candidates", "describe", "read_classes", "resolve", "wanted"]

log = logging.getLogger(__name__)

# What divides classes that stand in one line.
BETWEEN = re.compile("[,;]")
COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True)
class Classes:
    """The kept outputs in the order of the user's file: `indices[i]` is an output of the model, `names[i]` its name.

    Raises:
        CrispError: there is no class, one is given twice, or names and indices differ in number.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.indices:
            raise CrispError("The list of classes is empty. Name at least one class.")
        if len(self.names) != len(self.indices):
            raise CrispError(f"{len(self.indices)} classes have {len(self.names)} names. Give every class one name.")
        twice = sorted(index for index, times in Counter(self.indices).items() if times > 1)
        if twice:
            raise CrispError(f"Output {twice[0]} is in the list of classes twice. Name every class once.")

    def __len__(self) -> int:
        return len(self.indices)


def read_classes(path: Path, labels: Labels | None, outputs: int) -> Classes:
    """Read a class list: one output index, name or synset id a line, `#` comments; rows of a label file fit too.

    What stands in double quotes is a name, whatever it holds.

    Raises:
        CrispError: the file cannot be read or is empty, or a line names no output, several, or one named before.
    """
    first_line: dict[int, int] = {}
    names: list[str] = []
    text = read_text(path, "class list")
    require_few(line_count(text), f"The class list {shown(str(path))}")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = _words(line, labels)
            if not words:
                continue
            index = _agreed(words, labels, outputs)
        except CrispError as error:
            raise CrispError(f"{path}, line {number}: {error}") from None
        if index in first_line:
            raise CrispError(
                f"{path}, line {number}: {words[0].text!r} is output {index}, which line {first_line[index]} names "
                "already. Delete one of the lines."
            )
        first_line[index] = number
        names.append(labels.name(index) if labels and index in labels.entries else words[0].text)
    if not first_line:
        raise CrispError(f"The class list {path} is empty. Write one class a line: an output index, name or synset id.")
    return Classes(tuple(first_line), tuple(names))


@dataclass(frozen=True)
class _Word:
    """A column of a line. In quotes it is a name and no number."""

    text: str
    quoted: bool = False


def _words(line: str, labels: Labels | None) -> list[_Word]:
    """The columns of a line; none where it is blank or a comment."""
    quoted = QUOTED.match(line.strip())
    if quoted is not None:
        rest = line.strip()[quoted.end() :]
        if COMMENT.sub("", rest).strip():
            raise CrispError(f"{line.strip()!r} goes on behind the closing quote. Write a quote inside a name twice.")
        return [_Word(quoted["name"].replace('""', '"'), quoted=True)]
    plain = COMMENT.sub("", line)
    if plain != line and labels is not None and labels.candidates(line):
        found = labels.candidates(line)[0]
        raise CrispError(
            f"{line.strip()!r} holds a comment, but output {found} is named so. Write the name in double quotes if the "
            "class is meant, or delete the line."
        )
    return [_Word(word.strip()) for word in plain.split("\t") if word.strip()]


def resolve(word: str, labels: Labels | None, outputs: int, *, quoted: bool = False) -> int:
    """The output that `word` means: an output index, a name or a synset id.

    A whole number is an output index, but for outputs that are named by numbers. `quoted`: it is a name.

    Raises:
        CrispError: `word` means no output (the nearest names are listed) or several (all are listed).
    """
    named = labels.candidates(word) if labels is not None else ()
    found = named if quoted else candidates(word, labels)
    if len(found) > 1:
        listed = " and ".join(describe(index, labels) for index in found)
        raise CrispError(f"{word!r} may be any of the outputs {listed}. Write the output index or the synset id.")
    if not found:
        raise CrispError(_unknown(word, labels, outputs))
    index = found[0]
    if not 0 <= index < outputs:
        raise CrispError(
            f"{word!r} is output {index}, but the model has {outputs} outputs (0 to {outputs - 1}). Correct the index."
        )
    others = [other for other in named if other != index]
    if others:
        log.warning("%r is read as output %d, not as the name of output %d.", word, index, others[0])
    return index


def candidates(word: str, labels: Labels | None) -> tuple[int, ...]:
    """Every output that `word` may mean, whether or not the model has that many."""
    named = labels.candidates(word) if labels is not None else ()
    if not NUMBER.fullmatch(word.strip()):
        return named
    index = int(word)
    if labels is not None and labels.numbers:
        named = labels.numbers.get(index, ())
        return named if named or labels.from_one else (index,)
    return named if named and labels is not None and index not in labels.entries else (index,)


def wanted(word: str, classes: Classes, labels: Labels | None) -> int | None:
    """The output of a class name in a data set, or None when it is none of the user's classes.

    Raises:
        CrispError: the name may be one of the user's classes or something else.
    """
    found = candidates(word, labels) or tuple(
        index for index, name in zip(classes.indices, classes.names, strict=True) if folded(name) == folded(word)
    )
    kept = [index for index in found if index in classes.indices]
    if kept and len(found) > 1:
        listed = " or ".join(describe(index, labels) for index in found)
        raise CrispError(f"{word!r} may be output {listed}. Rename it to the output index or the synset id.")
    return kept[0] if kept else None


def describe(index: int, labels: Labels | None) -> str:
    """An output for a message: `134 (n02012849, crane)`."""
    label = labels.entries.get(index) if labels is not None else None
    known = ", ".join(part for part in (label.wnid, label.name) if part) if label else ""
    return f"{index} ({known})" if known else str(index)


def _agreed(words: list[_Word], labels: Labels | None, outputs: int) -> int:
    """The output of a line; the further columns of a row copied from a label file must mean the same one."""
    first, *others = words
    index = resolve(first.text, labels, outputs, quoted=first.quoted)
    for word in others:
        if labels is not None and index not in (*candidates(word.text, labels), *labels.candidates(word.text)):
            raise CrispError(
                f"{first.text!r} is output {describe(index, labels)}, which is not {word.text!r}. Correct one."
            )
    return index


def _unknown(word: str, labels: Labels | None, outputs: int) -> str:
    parts = [part.strip() for part in BETWEEN.split(word)]
    if len(parts) > 1 and all(any(0 <= one < outputs for one in candidates(part, labels)) for part in parts):
        return f"{word!r} is several classes. Write one class a line."
    if labels is None:
        return (
            f"{word!r} is not an output index (0 to {outputs - 1}), and no names of the outputs are known. "
            "Give the names with --labels FILE, or write indices."
        )
    if SYNSET.fullmatch(word.strip()):
        return f"no output has the synset id {word!r} in {labels.source}. Check the id, or write the output index."
    if labels.from_one and NUMBER.fullmatch(word.strip()):
        return (
            f"{word!r} names no output: {labels.source} names them 1 to {len(labels)}, of which 1 is output "
            f"{labels.numbers[1][0]}. Write a number of these."
        )
    known = (name for label in labels.entries.values() for name in (*label.names, label.whole) if name)
    hint = nearest(word, known) or " Write a name, a synset id or an output index."
    return f"no output is named {word!r} in {labels.source}.{hint}"
