"""Read a small YAML file strictly: no duplicate keys, no aliases that multiply, no other types than plain data."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from crisp_onnx.errors import CrispError

MAX_BYTES = 256 << 10
MAX_DEPTH = 12
MAX_NODES = 20_000


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses aliases (the seed of YAML bombs) and repeated keys."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent):
            raise _RefusedError(event.start_mark, f"alias *{event.anchor}", "Write the value out")
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _RefusedError(event.start_mark, "too deep or too many entries", "A target is a page of plain keys")
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


class _RefusedError(Exception):
    def __init__(self, mark: Any, what: str, remedy: str) -> None:
        super().__init__(f"line {mark.line + 1}: {what}. {remedy}.")


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)))


# YAML 1.1 reads 1e9 as a string and 2:4 as the base-60 number 124; a descriptor means a number and a pattern.
_REPLACED = ("int", "float", "bool", "timestamp")
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag.rpartition(":")[2] not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _regex, _first in (
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("!float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
):
    _StrictLoader.add_implicit_resolver(_tag, re.compile(_regex), list(_first))
_StrictLoader.add_constructor("!float", _number)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`.

    Raises:
        CrispError: no such file, over 256 KiB, not UTF-8, not YAML, aliases, duplicate keys, or not a mapping.
    """
    if not path.is_file():
        raise CrispError(f"No such target file: {path}. Give the path of a crisp-hw/1 YAML file.")
    if path.stat().st_size > MAX_BYTES:
        raise CrispError(f"{path} is larger than {MAX_BYTES >> 10} KiB, too large for a hardware target. Shorten it.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except _RefusedError as refused:
        raise CrispError(f"{path}, {refused}") from refused
    except UnicodeDecodeError as error:
        raise CrispError(f"{path} is not a text file in UTF-8. Give a crisp-hw/1 YAML file.") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise CrispError(f"{path}{line}: not valid YAML ({problem}). Correct it there.") from error
    if not isinstance(content, dict):
        raise CrispError(f"{path} holds no mapping of keys. Start it with `schema: crisp-hw/1`.")
    return content
