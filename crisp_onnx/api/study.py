"""The memory of a sweep: an Optuna study that survives its process and that machines share."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import border, shown
from crisp_onnx.report.exploration import Choice, Point

log = logging.getLogger(__name__)

DIRECTIONS = ("maximize", "minimize", "minimize", "minimize")
"""Accuracy, and the shares of MACs, bytes and time."""
POINT, WHO = "point", "who"
_POINT = TypeAdapter(Point)
FIRST = (0.75, 0.875, 0.95, 0.5)
"""Sparsities that every sweep tries, where its space has them, before it chooses by what it has seen."""
MOST_REPEATS = 8
"""Of choices that were tried already, before the sampler is not asked any more."""


@dataclass(frozen=True)
class Space:
    """What a sweep may choose from, in any combination that leaves a block something to drop."""

    sparsities: tuple[float, ...]
    patterns: tuple[str, ...]
    blocks: tuple[int, ...]
    vector_rows: tuple[int, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every combination whose pattern alone does not drop more than the sparsity asks."""
        every = (Choice(*one) for one in product(self.sparsities, self.patterns, self.blocks, self.vector_rows))
        return tuple(one for one in every if one.sparsity >= 1 - _density(one.pattern))

    def first(self) -> tuple[Choice, ...]:
        """The choices to begin with: with the first pattern, block and vector rows, far apart in sparsity."""
        begin = (self.patterns[0], self.blocks[0], self.vector_rows[0])
        plain = [one for one in self.choices if (one.pattern, one.block, one.vector_rows) == begin]
        return tuple(dict.fromkeys(_nearest(plain, share) for share in FIRST)) if plain else self.choices[:1]


class Study:
    """Points of one question, kept in `storage`: a journal file, or the URL of a database.

    `question`: what the points have in common, as JSON data; another question is another study in the same storage.
    `who`: this worker; what an earlier process of the same name left unfinished is given up.
    """

    def __init__(self, storage: str, question: object, space: Space, *, seed: int, who: str) -> None:
        self._optuna = required()
        self.space, self._who = space, who
        text = json.dumps([question, asdict(space)], sort_keys=True, default=str)
        name = f"crisp-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=len(space.first()))
        with border(f"The storage {shown(storage)} cannot be used", _remedy(storage)):
            kept = _storage(self._optuna, storage)
            self._sweep = self._opened(name, kept, sampler)
            self._trainings = self._opened(f"{name}-trained", kept, None)
        self._asked: dict[tuple[bool, Choice], Any] = {}
        if not self._sweep.get_trials(deepcopy=False):
            for choice in space.first():
                self._sweep.enqueue_trial(_params(choice, space))

    def _opened(self, name: str, storage: Any, sampler: Any) -> Any:
        study = self._optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, directions=DIRECTIONS, load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and trial.user_attrs.get(WHO) == self._who:
                study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return study

    def next(self) -> Choice | None:
        """A choice that nobody has tried or is trying; None where every one was.

        The sampler's, or, once that only comes back to what was tried, the next of the space.
        """
        for asked in itertools.count():
            tried = {_choice(t.params, self.space) for t in self._sweep.get_trials(deepcopy=False) if _is_taken(t)}
            left = [choice for choice in self.space.choices if choice not in tried]
            if not left:
                return None
            if asked >= MOST_REPEATS:
                self._sweep.enqueue_trial(_params(left[0], self.space))
            trial = self._sweep.ask()
            trial.set_user_attr(WHO, self._who)
            choice = _suggested(trial, self.space)
            if choice in left:
                self._asked[False, choice] = trial
                return choice
            self._sweep.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def claim(self, choice: Choice) -> bool:
        """Take the training of a choice; False where another worker has done it or is at it."""
        trials = self._trainings.get_trials(deepcopy=False)
        if any(_choice(t.params, self.space) == choice for t in trials if _is_taken(t)):
            return False
        self._trainings.enqueue_trial(_params(choice, self.space))
        trial = self._trainings.ask()
        trial.set_user_attr(WHO, self._who)
        self._asked[True, _suggested(trial, self.space)] = trial
        return True

    def tell(self, point: Point) -> None:
        """Keep what a choice gave."""
        study = self._trainings if point.epochs else self._sweep
        trial = self._asked.pop((point.epochs > 0, point.choice))
        trial.set_user_attr(POINT, asdict(point))
        time_ratio = 1.0 if point.time_ratio is None else point.time_ratio
        study.tell(trial, [point.accuracy, point.macs_ratio, point.bytes_ratio, time_ratio])

    def refuse(self, choice: Choice) -> None:
        """Keep that a choice cannot be run, so that it is not tried again."""
        trial = self._asked.pop((False, choice))
        self._sweep.tell(trial, state=self._optuna.trial.TrialState.PRUNED, values=None)

    @property
    def points(self) -> tuple[Point, ...]:
        """Every finished point, of all workers.

        Raises:
            CrispError: the storage holds something else.
        """
        trials = [*self._sweep.get_trials(deepcopy=False), *self._trainings.get_trials(deepcopy=False)]
        with border("What the storage holds is no sweep of crisp-onnx", "Name another one with --storage."):
            told = [_POINT.validate_python(t.user_attrs[POINT]) for t in trials if t.state.name == "COMPLETE"]
        # Folders are named after choices: what another worker tells of others is not followed.
        return tuple(point for point in told if point.choice in self.space.choices)


def _density(pattern: str) -> float:
    n, m = map(int, pattern.split(":"))
    return n / m


def _nearest(choices: Sequence[Choice], sparsity: float) -> Choice:
    return min(choices, key=lambda one: abs(one.sparsity - sparsity))


def required() -> Any:
    """Optuna.

    Raises:
        CrispError: it is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise CrispError("Sweeps need Optuna: pip install 'crisp-onnx[explore]'.") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


def _storage(optuna: Any, text: str) -> Any:
    if "://" in text:
        return optuna.storages.RDBStorage(text)
    Path(text).parent.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal
    lock = journal.JournalFileSymlinkLock(text)
    if _is_torn(Path(text)):
        lock.acquire()  # another worker may be in the middle of a line
        try:
            _drop_torn_line(Path(text))
        finally:
            lock.release()
    return optuna.storages.JournalStorage(journal.JournalFileBackend(text, lock))


def _remedy(storage: str) -> str:
    if "://" in storage:
        return "Check the address and that the database can be reached, or name another one with --storage."
    return (
        "If it is a damaged journal, delete it, or name another one with --storage: the sweep then begins anew, and "
        "recipes and reports of the points so far stay."
    )


def _is_torn(journal: Path) -> bool:
    """Whether the last line has no end: its writer was killed or found the disk full."""
    if not journal.is_file() or not journal.stat().st_size:
        return False
    with journal.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _drop_torn_line(journal: Path) -> None:
    """What stands behind the last end of a line was never told; lines appended to it could not be read."""
    if _is_torn(journal):
        whole = journal.read_bytes().rfind(b"\n") + 1
        log.warning("The last line of %s was cut short and is dropped.", journal)
        os.truncate(journal, whole)


def _is_taken(trial: Any) -> bool:
    """Whether a trial stands for its choice: it is done, being done, or cannot be done."""
    return trial.state.name in ("COMPLETE", "RUNNING", "PRUNED") and len(trial.params) == len(fields(Choice))


def _params(choice: Choice, space: Space) -> dict[str, Any]:
    return {**asdict(choice), "sparsity": space.sparsities.index(choice.sparsity)}


def _choice(params: dict[str, Any], space: Space) -> Choice:
    return Choice(**{**params, "sparsity": space.sparsities[params["sparsity"]]})


def _suggested(trial: Any, space: Space) -> Choice:
    chosen = {
        "sparsity": trial.suggest_int("sparsity", 0, len(space.sparsities) - 1),  # by its place, so that near is near
        "pattern": trial.suggest_categorical("pattern", space.patterns),
        "block": trial.suggest_categorical("block", space.blocks),
        "vector_rows": trial.suggest_categorical("vector_rows", space.vector_rows),
    }
    return _choice(chosen, space)
