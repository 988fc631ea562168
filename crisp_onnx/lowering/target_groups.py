"""Several targets by one word: all of them, those that do the same with zeros, those of one kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crisp_onnx.lowering.describe import ZEROS, summarize_target
from crisp_onnx.lowering.target import Target, load_target, target_names

KINDS = ("cpu", "gpu", "npu", "accelerator")
GROUPS = ("all", *ZEROS, *KINDS)
"""As `crisp-onnx targets` shows them in its columns."""


def load_targets(names: Iterable[str | Path]) -> tuple[Target, ...]:
    """The targets of all `names`, each once: names, paths, and words of `GROUPS`.

    Raises:
        CrispError: an unknown name, or a file that is no sound descriptor.
    """
    found: dict[Path, Target] = {}
    for name in names:
        for target in _group(str(name)) if str(name) in GROUPS else (load_target(name),):
            found.setdefault(target.path.resolve(), target)
    return tuple(found.values())


def _group(word: str) -> tuple[Target, ...]:
    """In the order in which `crisp-onnx targets` lists them."""
    every = [(summarize_target(target), target) for target in map(load_target, target_names())]
    every.sort(key=lambda item: (ZEROS.index(item[0].zeros), item[0].name))
    return tuple(target for said, target in every if word in ("all", said.zeros, said.kind))
