"""`compress`: the whole road, from a file and a list of classes to a smaller file with an honest report."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from crisp_onnx.api.acceptance import compressed_already
from crisp_onnx.api.checkpoint import Checkpoint, open_checkpoint
from crisp_onnx.api.emit import emit, proof_inputs, prove
from crisp_onnx.api.first_look import first_look
from crisp_onnx.api.gains import Gains
from crisp_onnx.api.identity import identity_of
from crisp_onnx.api.int8 import INT8, in_int8
from crisp_onnx.api.int8_proof import prove_int8
from crisp_onnx.api.learn import Learned, learn
from crisp_onnx.api.narrow import Narrowing, narrow
from crisp_onnx.api.planning import level_planners
from crisp_onnx.api.question import Question, read_question
from crisp_onnx.api.results import MODEL, deliver, results_in
from crisp_onnx.api.slicing import CutNames, names_after_slicing
from crisp_onnx.api.speedup import refuse_speedup, timed_plan
from crisp_onnx.api.steady import steady
from crisp_onnx.api.steering import with_rewarded_pattern
from crisp_onnx.api.stopwatch import Stopwatch
from crisp_onnx.api.summarise import Outcome, summarise
from crisp_onnx.api.ways import WAYS, AnyComparison
from crisp_onnx.api.width_entries import widths_stamp
from crisp_onnx.api.widths import refuse_what_channels_do_not_know
from crisp_onnx.api.workshop import ELSEWHERE, state_folder, workshop
from crisp_onnx.data import Images, Preprocess
from crisp_onnx.data.pairs import Pair
from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN
from crisp_onnx.masks import Planner
from crisp_onnx.model import Model, Size, is_unchanged, load, save
from crisp_onnx.model.shapes import with_declared_outputs
from crisp_onnx.processes import processes, started_by_torchrun
from crisp_onnx.reading import reason, shown
from crisp_onnx.recipe import Recipe, input_files, options_text, options_without_paths
from crisp_onnx.report.schema import Report
from crisp_onnx.runtime.compare_pixels import PixelComparison
from crisp_onnx.runtime.evaluate import open_stock
from crisp_onnx.runtime.latency import Timing, measure_files
from crisp_onnx.runtime.library import load_library, require_isa
from crisp_onnx.runtime.opening import runtime_text
from crisp_onnx.task import Classification, stamped
from crisp_onnx.writing import keep_inputs, require_possible

log = logging.getLogger(__name__)

T = TypeVar("T")
NOWHERE = Path()
"""The bench of a process that writes nothing."""


def compress(
    recipe: Recipe,
    *,
    data: Iterable[Pair] | None = None,
    eval_data: Iterable[Pair] | None = None,
    resume: bool = False,
) -> Report:
    """Compress `recipe.model` for the recipe's classes and write model.onnx, report.json and recipe.yaml.

    Args:
        data, eval_data: (uint8 image, label) pairs, instead of the recipe's paths.
        resume: go on where a run like this one was killed, if one was, and keep what this one has come to when it is
            interrupted. The weights are those of an undisturbed run with the same seed and number of threads.

    Raises:
        CrispError: the input or an option is at fault, or the state of a run that was killed is of another one; nothing
            is written then.
        VerificationFailed: the written model does not answer as the masked dense graph does; nothing is kept.
    """
    if recipe.sparsities:
        raise CrispError("Several sparsities give several models: call compress_nested.")
    _require_first()
    return _run(recipe, data, eval_data, resume=resume)[0]


def compress_nested(
    recipe: Recipe,
    *,
    data: Iterable[Pair] | None = None,
    eval_data: Iterable[Pair] | None = None,
    resume: bool = False,
) -> tuple[Report, ...]:
    """As `compress`, for each of the recipe's several sparsities, out of one training.

    The files of each go to a folder of its own in the recipe's, named by its sparsity.
    """
    if not recipe.sparsities:
        raise CrispError("One sparsity gives one model: call compress, or name several sparsities.")
    _require_first()
    return _run(recipe, data, eval_data, resume=resume)


def assist(recipe: Recipe, *, data: Iterable[Pair] | None = None, eval_data: Iterable[Pair] | None = None) -> None:
    """What every process of `torchrun` but the first does while that one compresses: a share of saliency and training.

    The arguments are those of `compress`.
    """
    _run(recipe, data, eval_data, resume=False)


def _require_first() -> None:
    these = started_by_torchrun()
    if not these.first:
        raise CrispError(f"Process {these.rank} of torchrun has nothing to report: call crisp_onnx.assist in it.")


def _run(
    recipe: Recipe, data: Iterable[Pair] | None, eval_data: Iterable[Pair] | None, *, resume: bool
) -> tuple[Report, ...]:
    watch = Stopwatch()
    recipe, told = with_rewarded_pattern(recipe)
    with watch("read"):
        asked, more = _asked(recipe, data, eval_data)
    told += more
    with processes() as these, workshop(recipe.folder, resume=resume) if these.first else nullcontext(NOWHERE) as bench:
        checkpoint = Checkpoint(None, these)
        if these.first:
            checkpoint = open_checkpoint(
                state_folder(bench), identity_of(recipe, asked), resume=resume, processes=these
            )
        given, narrowed = asked.images is not None, None
        if recipe.narrows:
            narrowed = narrow(recipe, asked, folder=bench, checkpoint=checkpoint, watch=watch)
            asked = narrowed.asked
        with watch("timing"):
            asked, gains = timed_plan(recipe, asked, bench, checkpoint, trained=narrowed is not None)
        if narrowed is not None and recipe.method == "channels":
            found: tuple[Learned, ...] = (narrowed.learned,)
        else:
            left = {} if narrowed is None else {"epochs": narrowed.epochs_left}
            found = learn(
                gains.recipe.model_copy(update=left), asked, planner=gains.planner, folder=bench, checkpoint=checkpoint,
                watch=watch,
            )  # fmt: skip
        narrowing = None if narrowed is None else narrowed.narrowing
        finish = partial(
            _finished, asked=asked, gains=gains, told=(*told, *gains.notes), watch=watch, given=given,
            narrowing=narrowing,
        )  # fmt: skip
        if not these.first:
            return ()
        if not recipe.sparsities:
            return (finish(bench, gains.recipe, found[0], gains.planner),)
        reports = []
        planners = level_planners(recipe, gains.planner)
        for folder, learned, planner in zip(recipe.folders, found, planners, strict=True):
            with workshop(folder) as own:
                reports.append(finish(own, gains.recipe.model_copy(update={"output": folder}), learned, planner))
        return tuple(reports)


def _asked(
    recipe: Recipe, data: Iterable[Pair] | None, eval_data: Iterable[Pair] | None
) -> tuple[Question, tuple[str, ...]]:
    """The run's question, and what the user should know of it. Whatever will be refused is refused here.

    Raises:
        CrispError: the input or an option is at fault.
    """
    if load_library().path:
        require_isa()  # a wrong CRISP_ONNX_ISA would stop the run when the model is trained already
    for folder in recipe.folders:
        require_possible(folder, ELSEWHERE)
    source = load(recipe.model)
    _check_input(recipe, source)
    refuse_what_channels_do_not_know(recipe, given=recipe.data is not None or data is not None)
    refuse_speedup(recipe)
    asked = read_question(
        recipe, source, recipe.data if data is None else data, recipe.eval_data if eval_data is None else eval_data
    )
    told = (*asked.notes, *first_look(asked))
    if recipe.narrows and started_by_torchrun().count > 1:
        raise CrispError(f"--method {recipe.method} runs in one process. Start it without torchrun.")
    for folder in recipe.folders:
        keep_inputs(results_in(folder), (*source.data_files, *input_files(recipe)), ELSEWHERE)
    return asked, told


def _finished(
    bench: Path,
    recipe: Recipe,
    learned: Learned,
    planner: Planner,
    *,
    asked: Question,
    gains: Gains,
    told: tuple[str, ...],
    watch: Stopwatch,
    given: bool,
    narrowing: Narrowing | None,
) -> Report:
    """Write the model that was learnt, prove and measure it, and put it into the recipe's folder with its report."""
    prepared, answers, judged = asked.prepared, asked.answers, asked.judged
    with watch("emit"):
        kept = answers.sliced() if recipe.head == "slice" else answers
        emitted = emit(learned.model, learned.plan, recipe, prepared, answers, timed=bool(gains.verdicts))
        emitted = replace(emitted, model=_stamped(emitted.model, recipe, asked, kept, narrowing))
        written = bench / MODEL
        bytes_written = save(emitted.model, written, one_file=recipe.one_file)
    tasks, seen = (answers, kept), judged or learned.held_out
    with watch("prove"):
        inputs = proof_inputs((judged, learned.images), prepared.source.input, asked.form.size)
        equivalence = prove(emitted, written, inputs)
    int8, before_int8 = None, None
    if recipe.precision == INT8:
        with watch("accuracy"):
            before_int8, _ = _tried(partial(_compared, prepared.source, written, tasks, seen))
        with watch("int8"):
            emitted, int8 = in_int8(emitted, recipe, prepared, learned, planner, kept)
            bytes_written = save(emitted.model, written, one_file=recipe.one_file)
            int8 = prove_int8(written, inputs, int8)
    # The model is finished and proven: from here on nothing that goes wrong may cost it.
    with watch("accuracy"):
        comparison, unjudged = _tried(partial(_compared, prepared.source, written, tasks, seen))
    with watch("latency"):
        timing, untimed = _tried(partial(_timed, prepared.source, written, asked.form.size))
    outcome = Outcome(
        recipe, prepared, asked.classes, learned, emitted, gains.verdicts, equivalence, comparison, unjudged,
        timing, untimed, runtime_text(written), planner, told, bytes_written, given=given,
        evaluated=judged is not None, int8=int8, before_int8=before_int8, narrowing=narrowing,
    )  # fmt: skip
    pictures = comparison.shown if isinstance(comparison, PixelComparison) else ()
    return deliver(partial(summarise, outcome, watch.seconds), recipe, bench, pictures)


compress.__doc__ = f"{compress.__doc__}\n    A recipe holds, with these defaults:\n\n{options_text()}\n"


def _check_input(recipe: Recipe, source: Model) -> None:
    """Refuse what is compressed already."""
    refusal = compressed_already(source)
    if refusal:
        raise CrispError(refusal)


def _tried(measure: Callable[[], T]) -> tuple[T | None, str]:
    """What was measured, or the reason why it could not be."""
    try:
        return measure(), ""
    except Exception as error:
        log.debug("not measured:", exc_info=True)
        return None, str(error) if isinstance(error, CrispError) else reason(error)


def _compared(
    dense: Model, compressed: Path, answers: tuple[Classification, Classification], seen: Images | None
) -> AnyComparison | None:
    """Both models on the same labelled images; None where there are none. Their sessions end here."""
    if seen is None or not seen.labelled:
        return None
    with steady(dense, compressed.parent) as path:
        sessions = (open_stock(path), open_stock(compressed))
        found: AnyComparison = WAYS[answers[0].name].compare(sessions, answers, seen)
    _require_unchanged(dense)
    return found


def _timed(dense: Model, compressed: Path, size: Size) -> Timing:
    """Both models in turn."""
    with steady(dense, compressed.parent) as path:
        found = measure_files([path, compressed], dense.input, size=size)
    _require_unchanged(dense)
    return found


def _require_unchanged(dense: Model) -> None:
    if not dense.data_files and not is_unchanged(dense):  # otherwise a copy of what was read has been measured
        raise CrispError(
            f"{shown(str(dense.path))} was replaced while the run went on, so it is not the model that was compressed. "
            "Compress it again, from a copy that stays."
        )


def _stamped(
    model: Model, recipe: Recipe, asked: Question, answers: Classification, narrowing: Narrowing | None
) -> Model:
    """The model with what it says of itself in its metadata; names of outputs that are cut off go or follow."""
    source = asked.prepared.source
    names = names_after_slicing(asked.prepared, answers) if recipe.head == "slice" else CutNames({}, ())
    preprocess = asked.form.describe() if isinstance(asked.form, Preprocess) else None
    entries = {
        **widths_stamp(narrowing),
        f"{DOMAIN}.recipe": json.dumps(options_without_paths(recipe)),
        f"{DOMAIN}.source_sha256": source.sha256,
        **stamped(answers, asked.classes, labels=asked.labels, preprocess=preprocess),
    }
    return with_declared_outputs(model, source).with_metadata({**names.kept, **entries}, without=names.dropped)
