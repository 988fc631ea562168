"""Read a small YAML file strictly: no duplicate keys, aliases or tags, bounded depth and length, plain data alone."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from crisp_onnx.errors import CrispError
from crisp_onnx.reading.foreign_errors import border, shown
from crisp_onnx.reading.text import read_text

MAX_BYTES = 256 << 10
MAX_DEPTH = 12
MAX_NODES = 20_000
MAX_DIGITS = 40


class _RefusedError(Exception):
    def __init__(self, mark: Any, what: str, remedy: str) -> None:
        super().__init__(f"line {mark.line + 1}: {shown(what)}. {remedy}.")


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses aliases (the seed of YAML bombs), tags and repeated keys."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent):
            raise _RefusedError(event.start_mark, f"alias *{event.anchor}", "Write the value out")
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(event.start_mark, f"tag {event.tag}", "Write plain values without tags")
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _RefusedError(event.start_mark, "too deep or too many entries", "Keep it to a page of plain keys")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise _RefusedError(key_node.start_mark, f"duplicate key {key!r}", "Keep one of the two")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _WordLoader(_StrictLoader):
    """The same, and every value is the text that stands there: `no` is a name and 007 no 7."""


_WordLoader.yaml_implicit_resolvers = {}


class _PlainDumper(yaml.SafeDumper):
    """Writes what `_StrictLoader` reads back to the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Single quotes lose line breaks such as U+0085; double quotes escape them.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)))


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > MAX_DIGITS:
        raise _RefusedError(node.start_mark, f"a number of {len(text)} digits", "Write a smaller one")
    return int(text)


# YAML 1.1 reads 1e9 as a string and 2:4 as the base-60 number 124; here they mean a number and a pattern.
_REPLACED = ("int", "float", "bool", "timestamp", "merge")
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag.rpartition(":")[2] not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _regex, _first in (
    ("!int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("!float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
):
    for _side in (_StrictLoader, _PlainDumper):  # the dumper then quotes text that would be read as a number
        _side.add_implicit_resolver(_tag, re.compile(_regex), list(_first))
_PlainDumper.add_representer(str, _text)
_StrictLoader.add_constructor("!int", _whole)
_StrictLoader.add_constructor("!float", _float)


def read_yaml(path: Path, what: str, example: str) -> dict[Any, Any]:
    """The mapping in `path`; `what` names the file in messages, `example` is a line that it could hold.

    Raises:
        CrispError: no such file, over 256 KiB, not text, not YAML, aliases, tags, duplicate keys, or not a mapping.
    """
    text = read_text(path, what, limit=MAX_BYTES)
    name = shown(str(path))
    with border(f"{name} is not valid YAML", "Correct it."):
        content = _loaded(text, name)
    if not isinstance(content, dict):
        raise CrispError(f"{name} holds no mapping of keys. Write `key: value` lines, for example `{example}`.")
    return content


def read_yaml_words(path: Path, what: str) -> object:
    """The mapping, list or text in `path`, in which every value and key is text.

    Raises:
        CrispError: as `read_yaml`, but for what is no mapping.
    """
    text = read_text(path, what, limit=MAX_BYTES)
    name = shown(str(path))
    with border(f"{name} is not valid YAML", "Correct it."):
        return _loaded(text, name, _WordLoader)


def yaml_text(content: Mapping[str, Any]) -> str:
    """Plain data as YAML that `read_yaml` reads back to the same values, in the order given."""
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)


def _loaded(text: str, name: str, loader: type[_StrictLoader] = _StrictLoader) -> object:
    try:
        return yaml.load(text, Loader=loader)
    except _RefusedError as refused:
        raise CrispError(f"{name}, {refused}") from refused
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise CrispError(f"{name}{line}: not valid YAML ({shown(error.problem or '')}). Correct it there.") from error
