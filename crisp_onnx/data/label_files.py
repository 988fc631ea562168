"""Read the names of a model's outputs from a file: lines, a JSON or Python literal, or YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from crisp_onnx.data.label_rows import numbered
from crisp_onnx.data.labels import (
    INVERSE,
    KEYS,
    Label,
    Labels,
    entries_of,
    is_index,
    label_of,
    literal,
    require_few,
    unquoted,
)
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import line_count, read_text, read_yaml_words, shown

LITERALS = ("{}", "[]")
# What begins with # alone may be a name, as "#hashtag" is.
COMMENT = re.compile(r"#(\s|$)")


def read_labels(path: Path) -> Labels:
    """Names of the outputs, in the order of the outputs or by an index that the file states.

    Lines that begin with # and a space are comments. The others are numbered by an index column where they have one
    (`index<TAB>wnid<TAB>names`, `name,index`, `3  dog`), else by their place. JSON, YAML and Python literals are a list
    of names, a dict of index to name or of name to index, or a configuration with one of these under a key of
    `labels.KEYS` or `labels.INVERSE`.

    Raises:
        CrispError: the file cannot be read, is empty, a line does not fit, or it is not clear which number of a line is
            the index; the message has file and line.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return _of_value(read_yaml_words(path, "label file"), path)
    text = read_text(path, "label file")
    if path.suffix.lower() == ".json" or _is_literal(text):
        return _of_value(literal(text.strip()), path)
    require_few(line_count(text), f"The label file {shown(str(path))}")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if all(COMMENT.match(line) for line in lines):
        raise CrispError(f"The label file {path} is empty. Write one name a line, in the order of the model's outputs.")
    entries = numbered(lines, path)
    if entries is None:
        inner = (line for line in lines if not line.startswith("#") and "\t" in line)
        tabbed = any("\t" in line.strip() or is_index(line.strip()) for line in inner)
        entries = _tabbed(lines, path) if tabbed else _plain(lines, path)
    return Labels(entries, str(path))


def _is_literal(text: str) -> bool:
    """Whether the whole text stands in braces or brackets, and not each line by itself."""
    text = text.strip()
    inner = [line.strip() for line in text.splitlines()[:2]]
    return text[:1] + text[-1:] in LITERALS and (len(inner) < 2 or not inner[0].endswith(text[-1]))


def _of_value(value: object, path: Path) -> Labels:
    for part in (value, *(value.values() if isinstance(value, Mapping) else ())):
        if isinstance(part, (Mapping, list, tuple)):
            require_few(len(part), f"The label file {shown(str(path))}")
    entries = entries_of(value)
    if not entries and isinstance(value, Mapping):
        by_key = {str(key).casefold(): part for key, part in value.items()}
        entries = next(filter(None, (entries_of(by_key.get(key)) for key in (*KEYS, *INVERSE))), {})
    if not entries:
        raise CrispError(
            f"{path} holds no names: a list of them, a dict of output index to name or of name to index without an "
            f"index twice, or a configuration with one of these under {', '.join((*KEYS, *INVERSE))} is needed."
        )
    return Labels(entries, str(path))


def _plain(lines: Sequence[str], path: Path) -> dict[int, Label]:
    """A name a line; one in double quotes is what stands inside."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise CrispError(
                f"{path}, line {number} is blank. Each line names one output in order, so a gap would shift the rest."
            )
    named = [line.strip() for line in lines if not COMMENT.match(line)]
    inner = [unquoted(line) for line in named]
    return {
        i: label_of([line if name is None else name]) for i, (line, name) in enumerate(zip(named, inner, strict=True))
    }


def _tabbed(lines: Sequence[str], path: Path) -> dict[int, Label]:
    entries: dict[int, Label] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        index, *rest = (field.strip() for field in line.split("\t"))
        if not is_index(index) or not any(rest):
            raise CrispError(f"{path}, line {number}: {line!r} is not `index<TAB>synset<TAB>names`. Correct the line.")
        if int(index) in entries:
            raise CrispError(f"{path}, line {number}: output {index} is named a second time. Delete one of the lines.")
        entries[int(index)] = label_of(rest)
    return entries
