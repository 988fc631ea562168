"""`explore`: a sweep under a time budget, one-shot first and trained where it pays, with a recipe for each point."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from crisp_onnx.api.bank import make_bank
from crisp_onnx.api.compression import compress
from crisp_onnx.api.identity import sweep_identity
from crisp_onnx.api.question import Question, read_question
from crisp_onnx.api.results import MODEL, RECIPE, REPORT, results_in
from crisp_onnx.api.study import Space, Study, required
from crisp_onnx.api.workshop import ELSEWHERE
from crisp_onnx.errors import CrispError
from crisp_onnx.format import parse_pattern
from crisp_onnx.model import load, weights_files, write_files
from crisp_onnx.reading import shown
from crisp_onnx.recipe import (
    BUDGET_KEYS,
    TIMED_KEYS,
    Recipe,
    make_recipe,
    read_recipe,
    recipe_text,
)
from crisp_onnx.report.exploration import Choice, Exploration, Point, folder_of
from crisp_onnx.report.front_plot import write_front_plot
from crisp_onnx.report.schema import Report, from_json
from crisp_onnx.report.views import document
from crisp_onnx.saliency import criterion_named
from crisp_onnx.writing import require_possible

log = logging.getLogger(__name__)

JOURNAL, DOCUMENT, PLOT = "study.journal", "explore.json", "front.svg"
SWEEP = "sweep.json"
"""In the folder of a point: what it was one of, so that a sweep on other images does not take it for its own."""
ONE_SHOT_SHARE = 0.5
"""Of the time, where there is something to train: what is left goes to training."""
EPOCHS = 20


@dataclass(frozen=True)
class Limits:
    """When a sweep ends. A point that has begun is finished.

    `minutes`: no point is begun of which those before say that it would take longer than is left. `points`: of one
    shot, at most; `trained`: how many of the best are trained, at most.
    """

    minutes: float = 30.0
    points: int | None = None
    trained: int = 3


def explore(recipe: Recipe, *, space: Space, limits: Limits | None = None, storage: str | None = None) -> Exploration:
    """Sweep over `space` and write each point's files, explore.json and front.svg to the recipe's folder.

    Every point is `recipe` with another sparsity, pattern and block, compressed without training; then the best are
    trained for the recipe's epochs. The study is kept in `storage` (a journal file, by default in the folder, or the
    URL of a database): the same call goes on where a stopped one ended, and machines that share it share the work.
    Models that others beat in everything are deleted; their recipes and reports stay.

    Raises:
        CrispError: the input or an option is at fault, or there are no labelled images to judge by.
    """
    limits = limits or Limits()
    required()
    _check(recipe, space, limits)
    require_possible(recipe.folder, ELSEWHERE)
    folder, began = recipe.folder, time.monotonic()
    asked = _asked(recipe)
    identity = sweep_identity(recipe, asked)
    study = Study(
        storage or str(folder / JOURNAL),
        identity,
        space,
        seed=recipe.seed,
        who=f"{socket.gethostname()}:{folder.absolute()}",
    )
    sweep = _Sweep(_with_bank(recipe, asked, identity), identity, study, began + 60 * limits.minutes)
    try:
        notes = sweep.one_shot(limits)
        notes += sweep.train(limits)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; the points so far stand in {folder}, and the same command goes on") from None
    found = Exploration(recipe.model, study.points, notes)
    return _written(found, folder)


def _with_bank(recipe: Recipe, asked: Question, identity: str) -> Recipe:
    """The recipe with a bank, so that saliency is summed up once for all points; made where it is not there yet."""
    criterion = criterion_named(recipe.saliency)
    labelled = asked.images is not None and asked.images.labels is not None
    if recipe.bank is not None or not criterion.from_images or not labelled or recipe.data is None:
        return recipe
    if recipe.first_finetune:  # saliency is of what that makes of the network
        return recipe
    path = recipe.folder / f"bank-{identity}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_bank(
            recipe.model, data=recipe.data, output=path, criterion=recipe.saliency, classes=recipe.classes,
            labels=recipe.labels, labels_offset=recipe.labels_offset, class_order=recipe.class_order,
            output_name=recipe.output_name, preprocess=recipe.preprocess, device=recipe.device, seed=recipe.seed,
        )  # fmt: skip
    return recipe.model_copy(update={"bank": path})


class _Sweep:
    """Points of one recipe, one after another, until the time is over."""

    def __init__(self, recipe: Recipe, identity: str, study: Study, end: float) -> None:
        self._recipe, self._identity, self._study, self._end = recipe, identity, study, end
        self._epochs = EPOCHS if recipe.epochs is None else recipe.epochs
        self._took: dict[bool, list[float]] = {False: [], True: []}

    def one_shot(self, limits: Limits) -> tuple[str, ...]:
        """Compress without training until the share of the time, or the number of points, is used up."""
        trains = limits.trained > 0 and self._epochs > 0
        end = self._end - (self._end - time.monotonic()) * (1 - ONE_SHOT_SHARE) if trains else self._end
        refused: list[str] = []
        for done in range(len(self._study.space.choices)):
            if done == limits.points or not self._fits(end, trained=False):
                break
            choice = self._study.next()
            if choice is None:
                break
            try:
                self._study.tell(self._point(choice, 0))
            except CrispError as error:
                if not self._study.points:
                    raise
                self._study.refuse(choice)
                refused.append(f"{choice.name} could not be made: {error}")
        return tuple(refused)

    def train(self, limits: Limits) -> tuple[str, ...]:
        """Train the best of one shot, those first that lie farthest apart."""
        if not self._epochs or not limits.trained:
            return ()
        shots = Exploration(self._recipe.model, tuple(p for p in self._study.points if not p.epochs), ()).best
        trained = 0
        for choice in _spread([point.choice for point in shots]):
            if trained == limits.trained:
                break
            if not self._fits(self._end, trained=True):
                return (f"Time was left to train {trained} points.",)
            if self._study.claim(choice):
                self._study.tell(self._point(choice, self._epochs))
                trained += 1
        return ()

    def _fits(self, end: float, *, trained: bool) -> bool:
        took = self._took[trained]
        return time.monotonic() + (median(took) if took else 0) < end or not self._study.points

    def _point(self, choice: Choice, epochs: int) -> Point:
        """Compress as `choice` says, or read what an earlier run of the same made of it."""
        began = time.monotonic()
        place = self._recipe.folder / folder_of(choice, epochs)
        options = {**asdict(choice), "epochs": epochs, "output": place}
        recipe = self._recipe.model_copy(update=options)
        log.info("%s, %d epochs:", choice.name, epochs)
        report = _made(recipe, self._identity)
        if report is None:
            (place / SWEEP).unlink(missing_ok=True)
            report = compress(recipe)
            write_files({place / SWEEP: json.dumps({"sweep": self._identity}).encode()})
        self._took[epochs > 0].append(time.monotonic() - began)
        return _point_of(report, choice, epochs)


def _made(recipe: Recipe, identity: str) -> Report | None:
    """The report of an earlier run of this recipe in a sweep of the same, where it stands in its folder."""
    try:
        if json.loads((recipe.folder / SWEEP).read_bytes()) != {"sweep": identity}:
            return None
        report = from_json((recipe.folder / REPORT).read_text(encoding="utf-8"))
        earlier = make_recipe(read_recipe(recipe.folder / RECIPE))
    except (OSError, ValueError, CrispError):
        return None
    same = recipe_text(_untimed(recipe)) == recipe_text(_untimed(earlier.model_copy(update={"output": recipe.output})))
    return report if same else None


def _untimed(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={key: Recipe.model_fields[key].default for key in TIMED_KEYS})


def _point_of(report: Report, choice: Choice, epochs: int) -> Point:
    accuracy, untouched = report.accuracy.compressed.top1_restricted, report.accuracy.dense.top1_restricted
    if accuracy is None or untouched is None:
        raise CrispError(f"A sweep needs accuracy to choose by, and it was not measured: {report.accuracy.reason}")
    latency = report.latency
    return Point(
        choice,
        epochs,
        accuracy,
        untouched,
        report.accuracy.n,
        report.macs.kept_ratio,
        report.file.bytes,
        report.file.bytes / report.file.bytes_dense,
        None if latency is None else latency.compressed.median_ms,
        None if latency is None or not latency.ratio_median else 1 / latency.ratio_median,
    )


def _spread(choices: Sequence[Choice]) -> list[Choice]:
    """The middle one, then the middles of both halves, and so on."""
    if not choices:
        return []
    middle = len(choices) // 2
    halves = [_spread(choices[:middle]), _spread(choices[middle + 1 :])]
    longest = max(map(len, halves))
    return [choices[middle], *(half[n] for n in range(longest) for half in halves if n < len(half))]


def _check(recipe: Recipe, space: Space, limits: Limits) -> None:
    given = [f"--{key.replace('_', '-')}" for key in BUDGET_KEYS if getattr(recipe, key) is not None]
    if given:
        raise CrispError(f"A sweep chooses the sparsity itself. Leave {given[0]} out of the recipe; see --sparsities.")
    for pattern in space.patterns:
        for block in space.blocks:
            for rows in space.vector_rows:
                parse_pattern(pattern, block=block, vector_rows=rows)
    if not space.choices:
        raise CrispError(
            "There is nothing to choose from: name sparsities that the patterns reach (2:4 alone drops half, 1:4 three "
            "quarters), and a block and vector rows."
        )
    wrong = [share for share in space.sparsities if not 0 < share < 1]
    if wrong:
        raise CrispError(f"A sparsity of {wrong[0]:g} is out of range; use shares between 0 and 1, for example 0.8.")
    if limits.minutes <= 0:
        raise CrispError(f"--minutes {limits.minutes:g} leaves no time. Give more than 0.")
    folder = recipe.folder
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise CrispError(f"Cannot write to {shown(str(folder))}. Choose another folder with --output.")


def _asked(recipe: Recipe) -> Question:
    """The question that every point asks, refused here where a point would refuse it."""
    asked = read_question(recipe, load(recipe.model), recipe.data, recipe.eval_data)
    if all(images is None or images.labels is None for images in (asked.images, asked.judged)):
        raise CrispError("A sweep needs labelled images to choose by: give --data or --eval-data with labels.")
    return asked


def _written(found: Exploration, folder: Path) -> Exploration:
    best = {point.folder for point in found.best}
    for point in found.points:
        place = folder / point.folder
        if point.folder not in best and place.is_dir():
            for file in {*results_in(place)} & {place / MODEL, *weights_files(place / MODEL)}:
                file.unlink(missing_ok=True)
    try:
        write_front_plot(found, folder / PLOT)
    except CrispError as error:
        found = replace(found, notes=(*found.notes, f"{PLOT} is left out: {error}"))
    write_files({folder / DOCUMENT: document(found).encode()})
    return found
