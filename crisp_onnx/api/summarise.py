"""Put what the stages found into one `Report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import onnx_graphsurgeon as gs

from crisp_onnx.api.emit import Emitted
from crisp_onnx.api.int8 import Int8
from crisp_onnx.api.layer_entries import layer_entries
from crisp_onnx.api.learn import Learned
from crisp_onnx.api.narrow import Narrowing
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.reorder import Reordering
from crisp_onnx.api.speedup import LEAST_KEPT, TOLERANCE
from crisp_onnx.api.ways import AnyComparison
from crisp_onnx.api.width_entries import channels_entry, with_source_widths
from crisp_onnx.api.width_estimate import is_least
from crisp_onnx.api.width_time import estimated, limit_of_widths
from crisp_onnx.api.widths import share_for_widths
from crisp_onnx.data import Classes
from crisp_onnx.format.node import is_hybrid, packed_names, value_bytes_of
from crisp_onnx.masks import Plan, Planner, Threshold
from crisp_onnx.masks.planner import BUDGET_TOLERANCE
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.report import schema
from crisp_onnx.report.doctor import versions
from crisp_onnx.report.machine import peak_memory_bytes
from crisp_onnx.report.overlap_entry import segmentation_entry
from crisp_onnx.report.wording import slower
from crisp_onnx.runtime.compare_pixels import PixelComparison
from crisp_onnx.runtime.evaluate import Comparison, Counts
from crisp_onnx.runtime.latency import Timing
from crisp_onnx.runtime.profit import Verdict

OF_PIXELS = "the model gives pixels a class, and no image as a whole; see segmentation"
GAIN_TO_EXPLAIN = 5.0  # points


@dataclass(frozen=True)
class Outcome:
    """Everything a run of `compress` has found.

    `rehearsed`: verdicts on layers before training. `unjudged`, `untimed`: why there is no comparison or timing where
    there should be. `runtime`: what ran the compressed file in `timing`. `given`: there
    were images to learn from. `evaluated`: the comparison is on the user's evaluation images. `before_int8`: the same
    comparison before the compressed network became int8. `narrowing`: where
    channels were removed; `prepared`, the planner and the plan are those of the narrower network then.
    """

    recipe: Recipe
    prepared: Prepared
    classes: Classes
    learned: Learned
    emitted: Emitted
    rehearsed: Mapping[str, Verdict]
    equivalence: schema.Equivalence
    comparison: AnyComparison | None
    unjudged: str
    timing: Timing | None
    untimed: str
    runtime: str
    planner: Planner
    notes: tuple[str, ...]
    bytes_written: int
    given: bool
    evaluated: bool
    int8: Int8 | None = None
    before_int8: AnyComparison | None = None
    narrowing: Narrowing | None = None

    @property
    def whole(self) -> Prepared:
        """The model before anything was taken away."""
        return self.prepared if self.narrowing is None else self.narrowing.before


def summarise(outcome: Outcome, seconds: Mapping[str, float]) -> schema.Report:
    """The report of a run; `seconds` by stage."""
    plan, prepared, recipe = outcome.learned.plan, outcome.prepared, outcome.recipe
    total = sum(decision.layer.weights for decision in plan.layers)
    zeros = sum(sparse.layer.weights - sparse.kept_weights for sparse in plan.sparse())
    return schema.Report(
        source=schema.Source(path=str(recipe.model), sha256=prepared.source.sha256),
        classes=tuple(
            schema.ClassEntry(index=index, name=name)
            for index, name in zip(outcome.classes.indices, outcome.classes.names, strict=True)
        ),
        accuracy=_accuracy(outcome),
        segmentation=_segmentation(outcome),
        sparsity=schema.Sparsity(weights=plan.sparsity, all_weights=zeros / total),
        macs=_macs(outcome),
        file=schema.FileSizes(
            bytes_dense=prepared.source.file_bytes,
            bytes=outcome.bytes_written,
            bytes_formula=formula_bytes(outcome.emitted.model, outcome.emitted.plan),
        ),
        equivalence=outcome.equivalence,
        latency=None
        if outcome.timing is None
        else schema.latency_entry(outcome.timing, threads=1, batch=1, runtime=outcome.runtime),
        reordering=_reordering(outcome.learned.reordering),
        quantisation=None if outcome.int8 is None else outcome.int8.entry,
        channels=channels_entry(recipe, outcome.narrowing),
        timings_s={stage: round(spent, 3) for stage, spent in seconds.items()},
        peak_memory_bytes=peak_memory_bytes(),
        layers=with_source_widths(
            layer_entries(plan, outcome.emitted, outcome.rehearsed, outcome.learned.fits, outcome.int8),
            outcome.narrowing,
        ),
        declined=tuple(
            schema.Declined(pass_name=d.pass_name, node=d.node, reason=d.reason)
            for d in (*prepared.declined, *outcome.emitted.declined)
        ),
        budgets=(_budget(outcome),),
        notes=_once(
            *outcome.notes,
            *outcome.whole.notes,
            *outcome.learned.notes,
            *outcome.emitted.notes,
            *_speed_notes(outcome),
            *_missed_speed(outcome),
            *_unnarrowed(outcome),
            *_forgotten(outcome),
        ),
        versions=versions(),
        seed=recipe.seed,
    )


def _reordering(found: Reordering | None) -> schema.Reordering | None:
    if found is None:
        return None
    moved = [order for order in found.orders if order.moved and not found.reason]
    return schema.Reordering(
        done=not found.reason,
        reason=found.reason,
        kept_before=found.kept_before,
        kept_after=found.kept_after,
        worst_relative=found.worst_relative,
        groups=tuple(
            schema.ReorderedGroup(
                channels=order.group.width, written_by=order.group.producers, read_by=order.group.consumers,
                moved=order.moved, gain=order.gain,
            )
            for order in moved
        ),
        frozen=tuple(
            schema.FrozenGroup(
                channels=item.group.width, written_by=item.group.producers, read_by=item.group.consumers,
                reason=item.reason,
            )
            for item in found.frozen
        ),
    )  # fmt: skip


def formula_bytes(model: Model, plan: Plan) -> int:
    """The format's formula for the layers that `plan` has sparse plus every other stored tensor of the file."""
    graph = model.graph()
    packed = {name for node in graph.nodes if is_hybrid(node) for name in packed_names(node)}
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    rest = sum(t.values.nbytes for t in constants.values() if t.name not in packed)
    sizes = {node.name: value_bytes_of(node) for node in graph.nodes if is_hybrid(node)}
    return int(rest) + sum(s.stored_bytes(sizes[s.layer.name]) for s in plan.sparse())


def _macs(outcome: Outcome) -> schema.Macs:
    """Executed are those of hybrid operators without their zeros, and all of ordinary ones, zeros in place or not."""
    planned, stored, whole = outcome.learned.plan, outcome.emitted.plan, outcome.whole
    dense = max(1, whole.macs)
    return schema.Macs(
        dense=whole.macs,
        beside=whole.beside.macs,
        beside_kept=None if outcome.narrowing is None else planned.macs_beside,
        kept=stored.kept_macs,
        kept_ratio=stored.kept_macs / dense,
        nonzero=planned.kept_macs,
        nonzero_ratio=planned.kept_macs / dense,
    )


def _budget(outcome: Outcome) -> schema.Budget:
    """A budget of MACs counts those that are executed; with dense emission, those that some other engine would."""
    if outcome.recipe.speedup is not None:
        reached = 0.0 if outcome.timing is None else outcome.timing.ratios[1].median
        asked = outcome.recipe.speedup
        return schema.Budget(name="speedup", asked=asked, reached=reached, met=reached >= asked * (1 - TOLERANCE))
    limit = limit_of_widths(outcome.recipe)
    if limit is not None and outcome.recipe.method == "channels":
        reached = estimated(outcome.recipe, limit, outcome.emitted.model, outcome.prepared.size)
        met = reached <= limit.amount * (1 + BUDGET_TOLERANCE)
        return schema.Budget(name=limit.of, asked=limit.amount, reached=reached, met=met)
    if outcome.narrowing is not None and (outcome.recipe.macs is not None or outcome.recipe.method == "channels"):
        executed = outcome.recipe.emit == "hybrid"
        plan = outcome.emitted.plan if executed else outcome.learned.plan
        reached = plan.kept_macs / max(1, outcome.whole.macs)
        asked = share_for_widths(outcome.recipe) if outcome.recipe.macs is None else outcome.recipe.macs
        return schema.Budget(name="macs", asked=asked, reached=reached, met=reached <= asked + BUDGET_TOLERANCE)
    planned = outcome.planner.spent(outcome.learned.plan)
    if planned.name == "macs" and outcome.recipe.emit == "hybrid":
        planned = outcome.planner.spent(outcome.emitted.plan)
    return schema.Budget(**asdict(planned))


def _once(*notes: str) -> tuple[str, ...]:
    """Each sentence where it stands first: stages that are alike, such as two of training, say the same."""
    return tuple(dict.fromkeys(notes))


def _speed_notes(outcome: Outcome) -> tuple[str, ...]:
    if outcome.timing is None:
        return (f"Latency was not measured: {outcome.untimed}",)
    ratio = outcome.timing.ratios[1].median
    if not slower(ratio, outcome.timing.ratios[1].p90):
        return ()
    remedy = "Without --target, layers that lose are left dense." if outcome.recipe.target is not None else ""
    return (f"The compressed model is slower than the dense one on this host: {ratio:.2f}x as fast. {remedy}".rstrip(),)


def _missed_speed(outcome: Outcome) -> tuple[str, ...]:
    """What can be done where the finished model is less fast than the measurements before training promised."""
    budget = _budget(outcome)
    if budget.name != "speedup" or budget.met or outcome.timing is None:
        return ()
    told = f"The finished model is {budget.reached:.2f}x as fast, and --speedup {budget.asked:g} was asked for."
    kept = outcome.planner.kept if isinstance(outcome.planner, Threshold) else 1.0
    if outcome.recipe.method != "channels" and kept <= LEAST_KEPT:
        return (f"{told} No more zeros can be put into it.",)
    narrowing = outcome.narrowing
    least = narrowing is not None and is_least(outcome.recipe, narrowing.widths, narrowing.choice)
    if outcome.recipe.method == "channels" and least:
        return (f"{told} No more channels can go: measure again on a quiet machine, or ask for less.",)
    more = budget.asked * budget.asked / max(budget.reached, 1e-9)
    what = "channels" if outcome.recipe.method == "channels" else "zeros"
    return (
        f"{told} More {what} are possible: measure again on a quiet machine, or ask for more, as in --speedup "
        f"{more:.2g}.",
    )


def _unnarrowed(outcome: Outcome) -> tuple[str, ...]:
    """Why no channel went although zeros were to follow on fewer of them."""
    recipe, narrowing = outcome.recipe, outcome.narrowing
    if narrowing is None or recipe.method == "channels" or narrowing.choice.removals or narrowing.choice.dead:
        return ()
    told = "No channel was removed: zeros alone meet the budget."
    pattern = outcome.planner.candidates.pattern
    if recipe.macs is None or recipe.macs < pattern.density:
        return (told,)
    return (
        f"{told} In the layers that take it, {pattern} alone leaves {pattern.density:g} of the MACs. Ask for less than "
        f"--macs {pattern.density:g}, so that both take part, or use --method channels.",
    )


def _accuracy(outcome: Outcome) -> schema.Accuracy:
    if isinstance(outcome.comparison, PixelComparison):
        return schema.Accuracy(reason=OF_PIXELS)
    if outcome.comparison is None:
        return schema.Accuracy(reason=_why_unmeasured(outcome))
    dense, compressed = (_score(counts) for counts in outcome.comparison.counts)
    before = outcome.before_int8
    return schema.Accuracy(
        dense=dense,
        compressed=compressed,
        float32=_score(before.counts[1]) if isinstance(before, Comparison) else schema.Score(),
        n=outcome.comparison.n,
        source=_judged_on(outcome),
    )


def _judged_on(outcome: Outcome) -> Literal["evaluation images", "held-out training images"]:
    return "evaluation images" if outcome.evaluated else "held-out training images"


def _segmentation(outcome: Outcome) -> schema.Segmentation | None:
    if not isinstance(outcome.comparison, PixelComparison):
        return None
    return segmentation_entry(outcome.comparison, outcome.classes, _judged_on(outcome), seed=outcome.recipe.seed)


def _forgotten(outcome: Outcome) -> tuple[str, ...]:
    """Why a compressed model may gain over all outputs: it was trained on the user's classes alone."""
    if not isinstance(outcome.comparison, Comparison):
        return ()
    before, after = outcome.comparison.counts
    gained = 100 * (after.right - before.right) / before.n
    if gained < GAIN_TO_EXPLAIN or len(outcome.classes) == outcome.prepared.head.classes:
        return ()
    return (
        f"Over all outputs the compressed model gains {gained:.1f} points because it hardly answers with other classes "
        "than yours any more: it was trained on yours and has forgotten others, on whose images it is worse.",
    )


def _why_unmeasured(outcome: Outcome) -> str:
    if outcome.unjudged:
        return outcome.unjudged
    if outcome.evaluated:
        return "the evaluation images have no labels"
    if outcome.learned.images is None or not outcome.given:
        return "no images were given"
    if not outcome.learned.images.labelled:
        return "the images have no labels, and no evaluation images were given"
    return "no evaluation images were given and there are too few a class to hold some out"


def _score(counts: Counts) -> schema.Score:
    return schema.Score(top1=counts.right / counts.n, top1_restricted=counts.right_restricted / counts.n)
