"""Values of the JSON that preprocessing is configured in, each of its own type or refused by its key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown


def numbers(content: Mapping[str, Any], key: str, otherwise: list[float], path: Path) -> list[float]:
    """What stands under `key`, a number or a list of them, else `otherwise`."""
    value = content.get(key, otherwise)
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in values):
        raise wrong(path, key, "a number, or a list of them")
    return [float(one) for one in values]


def switch(content: Mapping[str, Any], key: str, otherwise: bool, path: Path) -> bool:
    """Whether `key` is true; `otherwise` where it says nothing."""
    value = content.get(key, otherwise)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise wrong(path, key, "true or false")
    return value


def wrong(path: Path, key: str, meant: str) -> CrispError:
    """The refusal of a value that is not what is `meant`."""
    return CrispError(f"{key} in the preprocessing file {shown(str(path))} is not {meant}. Correct it.")
