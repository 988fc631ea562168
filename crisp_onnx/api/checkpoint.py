"""What a run has come to, kept in files beside its unfinished results, so that a run that is killed can be taken up.

A file a part, in the safetensors format: tensors, and JSON in its metadata. Each is replaced in one step, so that
whenever the process is killed there is the old one or the new one. `run.json` says of which run they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from crisp_onnx.errors import CrispError
from crisp_onnx.model.write import write_files
from crisp_onnx.processes import ALONE, Processes
from crisp_onnx.reading import border, reason
from crisp_onnx.recover import State
from crisp_onnx.say_once import say_once
from crisp_onnx.writing import synced

log = logging.getLogger(__name__)

LEAST_APART_S = 20.0
MOST_SHARE = 0.02
"""Of the time of training that keeping its state may take."""
_RUN, _VALUES = "run.json", "values"
ANEW = "Leave --resume out to start anew."


class Checkpoint:
    """A `recover.Keeper` in files of `folder`, which is there; without one nothing is kept.

    `processes`: the first one has the folder, and the others hear from it what is in there.
    """

    def __init__(self, folder: Path | None, processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        self._next_s = time.monotonic() + LEAST_APART_S

    @property
    def due(self) -> bool:
        return self.folder is not None and time.monotonic() >= self._next_s

    def get(self, part: str) -> State | None:
        found = None if self.folder is None else self._read(self.folder, part)
        return as_first(found, self.processes)

    def _read(self, folder: Path, part: str) -> State | None:
        path = _file(folder, part)
        if not path.exists():
            return None
        broken = f"The {part} state of the run that was stopped cannot be read"
        with border(broken, ANEW), safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()[_VALUES])
            state = State({name: file.get_tensor(name) for name in file.keys()}, values)  # noqa: SIM118
        log.info("%-12s taken from the run that was stopped", part)
        return state

    def put(self, part: str, state: State) -> None:
        if self.folder is None:
            return
        start, path = time.monotonic(), _file(self.folder, part)
        fresh = path.with_suffix(".new")
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        try:
            save_file(tensors, fresh, {_VALUES: json.dumps(dict(state.values))})
            synced(fresh)
            fresh.replace(path)
        except Exception as error:  # safetensors has a type of its own for a full disk
            fresh.unlink(missing_ok=True)
            say_once(logging.WARNING, f"The state of this run cannot be kept ({reason(error)}): it cannot be resumed.")
        end = time.monotonic()
        self._next_s = end + max(LEAST_APART_S, (end - start) / MOST_SHARE)

    def agree(self, part: str, found: str) -> None:
        """Hold what a stage has come out as against what it came out as in the run that is taken up.

        Raises:
            CrispError: it differs, so that what was kept later does not follow from it.
        """
        kept = None if self.folder is None else self._read(self.folder, part)
        if kept is None:
            self.put(part, State({}, {part: found}))
        elif kept.values.get(part) != found:
            raise CrispError(
                f"This run cannot go on where the other one was stopped: its {part} come out differently, as they may "
                f"on another machine. {ANEW}"
            )


def as_first(state: State | None, processes: Processes) -> State | None:
    """The state that the first process has."""
    if processes.count == 1:
        return state
    kinds = {} if state is None else {name: (str(t.dtype), list(t.shape)) for name, t in state.tensors.items()}
    told = processes.told(None if state is None else [dict(state.values), kinds])
    if told is None:
        return None
    if state is None:
        kind_of = {name: getattr(torch, kind.removeprefix("torch.")) for name, (kind, _) in told[1].items()}
        state = State({name: torch.zeros(told[1][name][1], dtype=kind) for name, kind in kind_of.items()}, told[0])
    processes.spread(state.tensors)
    return state


def open_checkpoint(folder: Path, run: Mapping[str, Any], *, resume: bool, processes: Processes = ALONE) -> Checkpoint:
    """The state in `folder`, of this run or, with `resume`, of one just like it. `run`: what tells a run, by name.

    Raises:
        CrispError: it is of another run; the message names what differs.
    """
    told = folder / _RUN
    if resume and told.exists():
        with border("The state of the run that was stopped cannot be read", ANEW):
            kept = json.loads(told.read_text(encoding="utf-8"))
            names = [name for name in {**run, **kept} if run.get(name) != kept.get(name)]
        if names:
            raise CrispError(_unlike(names[0], kept, run))
        log.info("going on where the run that was stopped had come to")
        return Checkpoint(folder, processes)
    if resume:
        log.info("there is nothing to resume: the run starts from the beginning")
    folder.mkdir(mode=0o700, exist_ok=True)
    write_files({told: json.dumps(dict(run)).encode()})
    return Checkpoint(folder, processes)


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part.replace(' ', '_')}.safetensors"


def _unlike(name: str, kept: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    values = ["not given" if side.get(name) is None else json.dumps(side[name]) for side in (kept, run)]
    short = all(len(value) <= 30 for value in values)
    said = f"{name} was {values[0]} there and is {values[1]} here" if short else f"{name} is another"
    return f"The run that was stopped is not this one: {said}. Give what it was given. {ANEW}"
