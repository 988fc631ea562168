"""Load a hardware target by name or path, check it, and resolve its numbers to cycles of its clock."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ValidationError

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.lowering.consistency import check_consistency
from crisp_onnx.lowering.quantity import Quantity
from crisp_onnx.lowering.schema import SCHEMA, Descriptor, EnergyTable, Memory, NmSupport
from crisp_onnx.lowering.units import convert
from crisp_onnx.reading import border, read_yaml, shown

PORTABLE = "portable"
SUFFIXES = (".yaml", ".yml")
SHOWN = 3
"""Files of a folder that a message names."""


@dataclass(frozen=True)
class Leaf:
    """One number of a descriptor: its key (`memory.0.read_bw`) and what stands there."""

    key: str
    quantity: Quantity


@dataclass(frozen=True)
class Target:
    """A checked descriptor. `number` gives bytes per cycle, cycles, or the base unit; missing numbers are `None`."""

    descriptor: Descriptor
    path: Path
    # Conversions are exact rationals and asked for again with every layer; keyed by the quantity's own identity.
    _converted: dict[int, Fraction] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.descriptor.name

    @cached_property
    def sha256(self) -> str:
        """Of all that the descriptor says: targets that say the same cost the same."""
        return hashlib.sha256(self.descriptor.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @cached_property
    def clock_hz(self) -> Fraction:
        hz = self.descriptor.clock.hz
        return convert(hz.value, hz.unit, hz.dimension, Fraction(1))

    def number(self, quantity: Quantity | None) -> Fraction | None:
        if quantity is None:
            return None
        found = self._converted.get(id(quantity))
        if found is None:
            found = convert(quantity.value, quantity.unit, quantity.dimension, self.clock_hz)
            self._converted[id(quantity)] = found
        return found

    def whole(self, quantity: Quantity | None, default: int = 1) -> int:
        """A count; `default` where the descriptor has none."""
        value = self.number(quantity)
        return default if value is None else int(value)

    def peak_macs(self, dtype: str) -> Fraction:
        """Dense MACs per cycle of the whole chip at `dtype`.

        Raises:
            CrispError: the target does not compute in `dtype`.
        """
        array = self.descriptor.array
        peak = (array.peak_dense_mac_per_cycle or {}).get(dtype)  # type: ignore[call-overload]
        if peak is not None:
            return self.number(peak) or Fraction(0)
        if dtype not in self.descriptor.dtypes:
            known = ", ".join(self.descriptor.dtypes)
            raise CrispError(f"Target {self.name} does not compute in {dtype}. It has {known}; choose one of these.")
        return Fraction(self.whole(array.units) * self.whole(array.rows) * self.whole(array.lanes))

    @property
    def stores_smaller(self) -> bool:
        """Whether zeros make the weights smaller in its memory, and that memory has a pace that this can help."""
        sparsity = self.descriptor.sparsity
        parts = (*sparsity.nm, sparsity.block, sparsity.unstructured)
        return self.dram.read_bw is not None and any(part is not None and part.storage for part in parts)

    @cached_property
    def fallback(self) -> Target:
        """What runs the operators that it does not have."""
        return load_target(self.descriptor.fallback or PORTABLE)

    def runs(self, op: str) -> bool:
        """Whether the target has operator type `op`; it has every one where its descriptor lists none."""
        return self.descriptor.ops is None or op in self.descriptor.ops

    @property
    def dram(self) -> Memory:
        return self.descriptor.memory[0]

    @property
    def buffer(self) -> Memory | None:
        return self.descriptor.memory[1] if len(self.descriptor.memory) > 1 else None

    def nm(self, keep: int, group: int) -> NmSupport | None:
        """The entry that runs n:m weights best: that very pattern, or one that every such weight satisfies too."""
        fitting = [s for s in self.descriptor.sparsity.nm if _holds(s, keep, group)]
        return min(fitting, key=lambda s: (s.keep / s.group, s.group != group), default=None)

    @cached_property
    def energy_pj(self) -> dict[str, dict[str, float]]:
        """pJ by level (low, nominal, high) and action; 0 where the table leaves an action out."""
        table = self.descriptor.energy
        names = [name for name in EnergyTable.model_fields if name.endswith("_pj")]
        entries = {name: getattr(table, name) for name in names} if table is not None else {}
        return {
            level: {
                name.removesuffix("_pj"): float(self.number(getattr(entry, level)) or 0) if entry is not None else 0.0
                for name, entry in entries.items()
            }
            for level in ("low", "nominal", "high")
        }

    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(_leaves(self.descriptor, ""))


def _holds(support: NmSupport, keep: int, group: int) -> bool:
    """Whether all n:m weights satisfy the pattern of `support`: whole groups of the one lie in those of the other."""
    if group % support.group == 0:
        return keep <= support.keep
    return support.group % group == 0 and keep * (support.group // group) <= support.keep


def _leaves(section: object, key: str) -> Iterator[Leaf]:
    if isinstance(section, Quantity):
        yield Leaf(key, section)
    elif isinstance(section, BaseModel):
        for name in type(section).model_fields:
            yield from _leaves(getattr(section, name), f"{key}.{name}" if key else name)
    elif isinstance(section, dict):
        for name, part in section.items():
            yield from _leaves(part, f"{key}.{name}")
    elif isinstance(section, tuple):
        for number, part in enumerate(section):
            yield from _leaves(part, f"{key}.{number}")


def targets_folder() -> Path:
    """The folder of built-in targets: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "hw_targets"
    return inside if inside.is_dir() else package.parent / "hw_targets"


def target_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in targets_folder().glob("*.yaml")))


def load_target(name: str | Path) -> Target:
    """A built-in target by name, or a user's own file by path (a file that is there, or what reads like a path).

    Raises:
        CrispError: unknown name, or a file that is not a sound `crisp-hw/1` descriptor; file, key and remedy are named.
    """
    text = str(name)
    if text in target_names():
        return _load(targets_folder() / f"{text}.yaml")
    path = Path(text)
    if text and (text.endswith(SUFFIXES) or "/" in text or os.path.lexists(text)):
        return _load(path)
    hint = nearest(text, target_names()) or f" There are {', '.join(target_names())}."
    raise CrispError(f"Unknown target {text!r}.{hint} Or give the path of a YAML file.")


def _load(path: Path) -> Target:
    with border(f"The hardware target {shown(str(path))} cannot be read"):
        if path.is_dir():
            raise CrispError(_of_folder(path))
        if not path.exists():
            raise CrispError(f"No such target file: {path}. Give the path of a {SCHEMA} YAML file.")
        if not path.is_file():
            raise CrispError(f"{path} is no ordinary file. Give the path of a {SCHEMA} YAML file.")
        if path.suffix.lower() == ".onnx":
            raise CrispError(
                f"{path} is a model. Give the name of a target, one of those that `crisp-onnx targets` lists, or the "
                f"path of a {SCHEMA} YAML file."
            )
    content = read_yaml(path, "hardware target", f"schema: {SCHEMA}")
    schema = content.get("schema")
    if schema != SCHEMA:
        found = f"schema {schema!r}" if schema is not None else "no `schema`"
        raise CrispError(f"{path}, key schema: found {found}, this version reads {SCHEMA!r}. Convert the file to it.")
    try:
        descriptor = Descriptor.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise CrispError(f"{path}, {_first(error)}") from error
    check_consistency(descriptor, path)
    fallback = descriptor.fallback
    if fallback is not None and fallback not in target_names():
        hint = nearest(fallback, target_names()) or " `crisp-onnx targets` lists them."
        raise CrispError(f"{path}, key fallback: {fallback!r} is no built-in target.{hint} Name one of those.")
    return Target(descriptor, path)


def _of_folder(folder: Path) -> str:
    """What to give instead of a folder."""
    inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not inside:
        return (
            f"{folder} is a folder without a YAML file. Give the name of a built-in target, which `crisp-onnx targets` "
            "lists, or the path of a YAML file."
        )
    some = ", ".join(map(str, inside[:SHOWN])) + (f" or another of its {len(inside)}" if len(inside) > SHOWN else "")
    return f"{folder} is a folder. Give one of the files in it as the target: {some}."


def _first(error: ValidationError) -> str:
    """The first problem in one sentence with its key and what to do; how many more there are."""
    # A misspelt key leaves another one missing; the misspelling is what the user has to see.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]") or "(top)"
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if key.endswith((".value.int", ".value.float")):  # a value may be either, so that what is neither errs twice
        key = key.rpartition(".")[0]
        problems = [problem for problem in problems if problem["loc"][:-1] != first["loc"][:-1] or problem is first]
        message = f"{first.get('input')!r} is no number, or no finite one. Write a plain number, without quotes"
    elif first["type"] == "extra_forbidden":
        fields = _fields_beside(first["loc"])
        hint = nearest(str(first["loc"][-1]), fields) or (
            f" Known here: {', '.join(sorted(fields))}." if fields else ""
        )
        message = f"unknown key.{hint} Remove or correct it"
    elif first["type"] == "missing":
        message = "is missing. Add it" + (" (every number is {value, unit, prov, ref})" if _is_leaf(key) else "")
    elif first["type"] in ("greater_than", "finite_number"):
        message = f"{first.get('input')!r} is not a positive number. Correct it, or write null where it is unknown"
    elif first["type"] == "literal_error":
        message = f"{first.get('input')!r} is not allowed: {message[0].lower()}{message[1:]}. Use one of these"
    elif first["type"] == "model_type":
        message = f"{first.get('input')!r} is no mapping. Write a number as {{value, unit, prov, ref}}"
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    return f"key {key}: {message}.{more}"


def _is_leaf(key: str) -> bool:
    return key.rpartition(".")[2] in Quantity.model_fields


def _fields_beside(loc: tuple[int | str, ...]) -> set[str]:
    """The keys that the section at `loc[:-1]` knows, found by walking the schema; empty where the walk is lost."""
    model: type[BaseModel] | None = Descriptor
    for part in loc[:-1]:
        if isinstance(part, int) or model is None:
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        model = _model_in(field.annotation) if field else None
    return {f.alias or n for n, f in model.model_fields.items()} if model else set()


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(part) for part in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)
