"""Put what the stages found into one `Report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import onnx_graphsurgeon as gs

from crisp_onnx.api.emit import Emitted
from crisp_onnx.api.layer_entries import layer_entries
from crisp_onnx.api.learn import Learned
from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import Classes
from crisp_onnx.format.node import is_hybrid, packed_names
from crisp_onnx.masks import Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.report import schema
from crisp_onnx.report.doctor import versions
from crisp_onnx.report.machine import peak_memory_bytes
from crisp_onnx.runtime.evaluate import Comparison, Counts
from crisp_onnx.runtime.latency import Timing


@dataclass(frozen=True)
class Outcome:
    """Everything a run of `compress` has found.

    `runtime`: what ran the compressed file in `timing`. `given`: there were images to learn from. `evaluated`: the
    comparison is on the user's evaluation images.
    """

    recipe: Recipe
    prepared: Prepared
    classes: Classes
    learned: Learned
    emitted: Emitted
    equivalence: schema.Equivalence
    comparison: Comparison | None
    timing: Timing
    runtime: str
    planner: Planner
    notes: tuple[str, ...]
    bytes_written: int
    given: bool
    evaluated: bool


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
        sparsity=schema.Sparsity(weights=plan.sparsity, all_weights=zeros / total),
        macs=schema.Macs(
            dense=plan.dense_macs, kept=plan.kept_macs, kept_ratio=plan.kept_macs / max(1, plan.dense_macs)
        ),
        file=schema.FileSizes(
            bytes_dense=prepared.source.file_bytes,
            bytes=outcome.bytes_written,
            bytes_formula=formula_bytes(outcome.emitted.model, outcome.emitted.plan),
        ),
        equivalence=outcome.equivalence,
        latency=schema.latency_entry(outcome.timing, threads=1, batch=1, runtime=outcome.runtime),
        timings_s={stage: round(spent, 3) for stage, spent in seconds.items()},
        peak_memory_bytes=peak_memory_bytes(),
        layers=layer_entries(plan, outcome.emitted),
        declined=tuple(
            schema.Declined(pass_name=d.pass_name, node=d.node, reason=d.reason)
            for d in (*prepared.declined, *outcome.emitted.declined)
        ),
        budgets=(schema.Budget(**asdict(outcome.planner.spent(plan))),),
        notes=(*outcome.notes, *outcome.prepared.notes, *outcome.learned.notes, *outcome.emitted.notes),
        versions=versions(),
        seed=recipe.seed,
    )


def formula_bytes(model: Model, plan: Plan) -> int:
    """The format's formula for the layers that `plan` has sparse plus every other stored tensor of the file."""
    graph = model.graph()
    packed = {name for node in graph.nodes if is_hybrid(node) for name in packed_names(node)}
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    rest = sum(t.values.nbytes for t in constants.values() if t.name not in packed)
    return int(rest) + sum(s.bytes for s in plan.sparse())


def _accuracy(outcome: Outcome) -> schema.Accuracy:
    if outcome.comparison is None:
        return schema.Accuracy(reason=_why_unmeasured(outcome))
    dense, compressed = (_score(counts) for counts in outcome.comparison.counts)
    return schema.Accuracy(
        dense=dense,
        compressed=compressed,
        n=outcome.comparison.n,
        source="evaluation images" if outcome.evaluated else "held-out training images",
    )


def _why_unmeasured(outcome: Outcome) -> str:
    if outcome.evaluated:
        return "the evaluation images have no labels"
    if not outcome.given:
        return "no images were given"
    if outcome.learned.images.labels is None:
        return "the images have no labels, and no evaluation images were given"
    return "no evaluation images were given and there are too few a class to hold some out"


def _score(counts: Counts) -> schema.Score:
    return schema.Score(top1=counts.right / counts.n, top1_restricted=counts.right_restricted / counts.n)
