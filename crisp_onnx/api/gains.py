"""Find out before anything is trained which layers gain from being sparse on this machine, and leave the others dense.

A layer that would not be faster gains nothing at all, as it would be stored with zeros in place: pruning it would cost
accuracy for nothing. Layers are timed at the density that is planned for them, then the whole model.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from crisp_onnx.api.checkpoint import Checkpoint
from crisp_onnx.api.planning import rehearse
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.steady import steady
from crisp_onnx.errors import CrispError
from crisp_onnx.format import with_bodies
from crisp_onnx.masks import Plan, Planner, Threshold
from crisp_onnx.model import Model, Size, save
from crisp_onnx.passes import hybrid_passes, run_passes
from crisp_onnx.quantize import rehearsed
from crisp_onnx.recipe import Recipe
from crisp_onnx.recover import State
from crisp_onnx.runtime.latency import measure_files
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.never_slower import HostChoice, judge_layers
from crisp_onnx.runtime.profit import Verdict
from crisp_onnx.writing import hidden_name

LEADS = (1.25, 1.6, 2.5)
"""Where the whole model is slower all the same, layers with a smaller lead than this are left dense, then the next."""
WHOLE_BUDGET_S = 1.0
AS_TOLD = "the recipe does not name it among the layers that are faster sparse"
SLOWS_THE_WHOLE = "The whole model would be slower with it, so it stays dense."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gains:
    """`recipe`, `planner`: with what was decided. `verdicts`: by layer name, of the layers that were timed."""

    recipe: Recipe
    planner: Planner
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_gains(
    recipe: Recipe, prepared: Prepared, planner: Planner, plan: Plan, folder: Path, *, trained: bool = False
) -> Gains:
    """Leave dense what would not be faster sparse here. Hardware targets, `portable` and dense emission time nothing.

    `plan`: rehearsed; layers are timed at its density. `folder`: for the models that are timed whole.
    `trained`: hours are spent already, so that layers that the budget needs are packed though they gain nothing.

    Raises:
        CrispError: a budget of MACs, before anything is trained, that the other layers cannot meet.
    """
    if not recipe.times_layers or not isinstance(planner, Threshold):
        given = recipe.packed is not None or recipe.most_blocks
        unused = "`packed` and `most_blocks` of the recipe say what was timed on this host, and are not used here."
        return Gains(recipe, planner, notes=(unused,) if given else ())
    candidates = planner.candidates
    if recipe.packed is not None:
        named = [layer.name for layer in candidates.free if layer.name in recipe.packed]
        reasons = {layer.name: AS_TOLD for layer in candidates.free if layer.name not in named}
        told = f"{len(named)} of {len(candidates.free)} layers may be sparse, as the recipe says; none was timed."
        restricted = _restricted(planner, reasons, recipe.most_blocks)
        if named:
            rehearse(restricted)
        return Gains(recipe, restricted, notes=(told,))
    choice = judge_layers(written_form(recipe, prepared.model, plan, size=prepared.size), size=prepared.size)
    if choice.obstacle:
        told = f"No layer was timed, so every planned layer becomes sparse: {choice.obstacle}"
        packed = tuple(layer.name for layer in candidates.free)
        return Gains(recipe.model_copy(update={"packed": packed}), planner, notes=(told,))
    reasons = _settle(recipe, prepared, plan, choice, folder)
    limits = _limits(planner, choice, reasons)
    restricted = _restricted(planner, reasons, limits)
    more: tuple[str, ...] = ()
    if trained:
        reasons, limits, more = _enough(planner, choice, reasons, limits)
        restricted = _restricted(planner, reasons, limits)
    elif restricted.candidates.free:
        _require_budget(restricted, reasons)
    packed = tuple(layer.name for layer in restricted.candidates.free)
    decided = recipe.model_copy(update={"packed": packed, "most_blocks": limits})
    return Gains(decided, restricted, choice.verdicts, (*_notes(recipe, reasons, len(choice.times)), *more))


def gains_kept(
    recipe: Recipe,
    prepared: Prepared,
    planner: Planner,
    plan: Plan,
    folder: Path,
    checkpoint: Checkpoint,
    *,
    trained: bool = False,
) -> Gains:
    """As `find_gains`, or what it had found in a run that was stopped: times differ from run to run.

    The checkpoint's first process times, and tells the others.
    """
    if not recipe.times_layers or not isinstance(planner, Threshold):
        return find_gains(recipe, prepared, planner, plan, folder, trained=trained)
    kept = checkpoint.get("timing")
    if kept is not None:
        return _from_state(kept, recipe, planner)
    these = checkpoint.processes
    gains = Gains(recipe, planner)
    if these.first:
        gains = find_gains(recipe, prepared, planner, plan, folder, trained=trained)
    before, found = planner.candidates.dense_reasons, gains.planner.candidates
    state = State(
        {},
        these.told(
            {
                "reasons": {name: said for name, said in found.dense_reasons.items() if not before.get(name)},
                "limits": dict(found.most_blocks),
                "packed": gains.recipe.packed,
                "most_blocks": dict(gains.recipe.most_blocks),
                "verdicts": {name: asdict(verdict) for name, verdict in gains.verdicts.items()},
                "notes": gains.notes,
            }
        ),
    )
    checkpoint.put("timing", state)
    return gains if these.first else _from_state(state, recipe, planner)


def _from_state(state: State, recipe: Recipe, planner: Threshold) -> Gains:
    told = state.values
    decided = {"packed": None if told["packed"] is None else tuple(told["packed"]), "most_blocks": told["most_blocks"]}
    verdicts = {
        name: Verdict(**{**verdict, "times": LayerTimes(**verdict["times"])})
        for name, verdict in told["verdicts"].items()
    }
    restricted = _restricted(planner, told["reasons"], told["limits"])
    return Gains(recipe.model_copy(update=decided), restricted, verdicts, tuple(told["notes"]))


def _limits(planner: Planner, choice: HostChoice, reasons: Mapping[str, str]) -> dict[str, int]:
    """Blocks that a layer may keep, where it may not keep all of them."""
    candidates = planner.candidates
    all_blocks = {layer.name: candidates.pattern.block_columns(layer.shape) for layer in candidates.free}
    most = choice.most_blocks.items()
    return {name: blocks for name, blocks in most if name not in reasons and blocks < all_blocks[name]}


def _restricted(planner: Threshold, reasons: Mapping[str, str], limits: Mapping[str, int]) -> Threshold:
    return replace(planner, candidates=replace(planner.candidates.without(reasons), most_blocks=limits))


def emitted_form(model: Model, plan: Plan) -> Model:
    """The model with `plan` as it would be written, its weights untrained."""
    graph = model.graph()
    run_passes(hybrid_passes(plan), graph)
    return with_bodies(model.with_graph(graph))


def written_form(recipe: Recipe, model: Model, plan: Plan, *, size: Size) -> Model:
    """`emitted_form` in the precision that the recipe asks for, nothing calibrated."""
    emitted = emitted_form(model, plan)
    return rehearsed(emitted, size=size).model if recipe.precision == "int8" else emitted


def _settle(recipe: Recipe, prepared: Prepared, plan: Plan, choice: HostChoice, folder: Path) -> dict[str, str]:
    """Why layers are to be left dense, by name: so many that the whole model is not slower than its source."""
    for lead in (1.0, *LEADS):
        weak = frozenset(name for name, verdict in choice.verdicts.items() if verdict.sparse and verdict.speedup < lead)
        tried = replace(choice, dense=weak)
        reasons = {name: f"{tried.verdicts[name].reason} {SLOWS_THE_WHOLE}" for name in weak} | tried.slower
        if len(reasons) == len(choice.times):
            return reasons
        faster = _times_faster(recipe, prepared, plan.without(reasons), folder)
        log.info("the whole model with %d sparse layers: %.2fx as fast", len(choice.times) - len(reasons), faster)
        if faster >= 1:
            return reasons
    return {name: f"{verdict.reason} {SLOWS_THE_WHOLE}" for name, verdict in choice.verdicts.items()} | choice.slower


def _times_faster(recipe: Recipe, prepared: Prepared, plan: Plan, folder: Path) -> float:
    """How many times as fast as its source the whole model is with `plan`, untrained."""
    own = folder / hidden_name()
    own.mkdir()
    try:
        path = own / "model.onnx"
        save(written_form(recipe, prepared.model, plan, size=prepared.size), path)
        with steady(prepared.source, own) as dense:
            paths, spec = [dense, path], prepared.source.input
            return measure_files(paths, spec, size=prepared.size, budget_s=WHOLE_BUDGET_S).ratios[1].median
    finally:
        shutil.rmtree(own)


def _enough(
    planner: Threshold, choice: HostChoice, reasons: Mapping[str, str], limits: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, int], tuple[str, ...]]:
    """Why layers stay dense, the limits and what to say: layers that lose least are packed until the budget can be met.

    Raises:
        CrispError: it cannot be, with all of them.
    """
    dense, most, packed = dict(reasons), dict(limits), 0
    for name in (*sorted(dense, key=lambda name: -choice.verdicts[name].speedup), None):
        try:
            if planner.of == "macs" or _restricted(planner, dense, most).candidates.free:
                rehearse(_restricted(planner, dense, most))
            break
        except CrispError:
            if name is None:
                if not most:
                    raise
                most = {}
                continue
            del dense[name]
            packed += 1
    told = f"{packed} layers are sparse though they are not faster so on this machine: --macs cannot be met without."
    return dense, most, (told,) * bool(packed)


def _require_budget(planner: Planner, reasons: Mapping[str, str]) -> None:
    try:
        rehearse(planner)
    except CrispError as error:
        if not reasons:
            raise
        raise CrispError(
            f"{error} {len(reasons)} of them would not be faster sparse on this machine; --target portable prunes "
            "those too."
        ) from error


def _notes(recipe: Recipe, reasons: Mapping[str, str], timed: int) -> tuple[str, ...]:
    if not reasons:
        return ()
    counted = "" if recipe.macs is not None else ", and --sparsity counts the others"
    return (
        f"{len(reasons)} of {timed} layers that could be sparse would not be faster so on this machine and stay "
        f"dense{counted}; report.json and the page show the times. --target portable packs every layer.",
    )
