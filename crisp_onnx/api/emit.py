"""From a trained model and its plan to the file: run the emission passes, write, load again, and prove equality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.slicing import slice_head
from crisp_onnx.data import Images
from crisp_onnx.errors import VerificationFailed
from crisp_onnx.format import with_bodies
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, Size, save
from crisp_onnx.passes import ApplyMasks, Declined, EmitHybrid, dense_passes, hybrid_passes, run_passes
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.schema import Equivalence
from crisp_onnx.runtime.evaluate import numbers_of, open_stock, worst_relative
from crisp_onnx.runtime.never_slower import HostChoice, judge_layers
from crisp_onnx.runtime.opening import runs_native, session
from crisp_onnx.runtime.profit import Verdict
from crisp_onnx.task import Classification

TOLERANCE, NATIVE_TOLERANCE = 1e-5, 1e-4
PROOF_IMAGES = 8
ZEROS_IN_PLACE = "stored with zeros in place, as asked (--emit dense)"
NOT_FASTER = "it would not be faster sparse on this machine"
AS_TOLD = "the recipe does not name it among the layers that are faster sparse"


@dataclass(frozen=True)
class Emitted:
    """`model` as it goes to the file, `masked` the dense graph with zeros in place that it must equal.

    `plan`: the planned layers less those that are stored with zeros in place, for the reasons given there; `unpacked`
    names those that would not be faster. `verdicts`: by layer name, where layers were timed on this host. `recipe`:
    the run's, with what timing decided.
    """

    model: Model
    masked: Model
    plan: Plan
    declined: tuple[Declined, ...]
    verdicts: Mapping[str, Verdict]
    unpacked: frozenset[str]
    recipe: Recipe
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Packing:
    """Which planned layers stay ordinary operators, with the reason by name, and how that was found out."""

    unpacked: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rewritten:
    model: Model
    declined: tuple[Declined, ...]


def emit(trained: Model, plan: Plan, recipe: Recipe, prepared: Prepared, answers: Classification) -> Emitted:
    """Rewrite the trained model into the form that the recipe asks for.

    Hybrid operators for this host (no `target`) are timed there, unless the recipe says which to pack; a layer that
    would not be faster stays an ordinary operator.
    """
    masked_graph = trained.graph()
    if recipe.head == "slice":
        slice_head(masked_graph, prepared, answers)
    run_passes((ApplyMasks(plan),), masked_graph)
    masked = trained.with_graph(masked_graph)
    emitted = plan if recipe.emit == "hybrid" else plan.without({s.layer.name: ZEROS_IN_PLACE for s in plan.sparse()})
    rewritten = _rewrite(masked, emitted)
    packing = _packing(recipe, emitted, rewritten.model, prepared.size) if recipe.times_layers else _Packing()
    if packing.unpacked:
        emitted = emitted.without(packing.unpacked)
        rewritten = _rewrite(masked, emitted)
    if recipe.times_layers:
        recipe = recipe.model_copy(update={"packed": tuple(s.layer.name for s in emitted.sparse())})
    slower = tuple(Declined(EmitHybrid.name, name, NOT_FASTER) for name in packing.unpacked)
    return Emitted(
        rewritten.model, masked, emitted,
        (*rewritten.declined, *slower), packing.verdicts, frozenset(packing.unpacked), recipe, packing.notes,
    )  # fmt: skip


def _packing(recipe: Recipe, plan: Plan, model: Model, size: Size) -> _Packing:
    """Which of the planned layers this host runs faster sparse: as the recipe says, or timed."""
    if recipe.packed is None:
        choice = judge_layers(model, size=size)
        return _Packing(choice.slower, choice.verdicts, _notes(choice))
    names = [sparse.layer.name for sparse in plan.sparse()]
    left = {name: AS_TOLD for name in names if name not in recipe.packed}
    note = f"{len(names) - len(left)} of {len(names)} planned layers are packed, as the recipe says; none was timed."
    return _Packing(left, {}, (note,))


def _rewrite(masked: Model, plan: Plan) -> _Rewritten:
    """The masked graph with the plan's sparse layers in hybrid operators; the other layers keep their zeros."""
    graph = masked.graph()
    declined = run_passes(hybrid_passes(plan) if any(plan.sparse()) else dense_passes(plan), graph)
    return _Rewritten(with_bodies(masked.with_graph(graph)), declined)


def _notes(choice: HostChoice) -> tuple[str, ...]:
    if choice.obstacle:
        return (f"No layer was timed, so every planned layer is a hybrid operator: {choice.obstacle}",)
    if not choice.slower:
        return ()
    share = f"{len(choice.slower)} of {len(choice.verdicts)}"
    return (
        f"{share} planned layers would not be faster sparse on this machine and are stored as ordinary operators with "
        "zeros in place; the table of layers shows the times. --target portable packs every planned layer.",
    )


def prove(emitted: Emitted, path: Path, images: Images) -> Equivalence:
    """Load the written file in stock ONNX Runtime, and with the native kernels where they work, and compare.

    Raises:
        VerificationFailed: the file's answers differ from those of the masked dense graph by more than 1e-5, and by
            more than ONNX Runtime's own rewriting changes that graph's answers; or the native kernels' by more than
            1e-4, as every layer of theirs adds in an order of its own.
    """
    dense = path.with_name("masked-dense.onnx")
    save(emitted.masked, dense)
    inputs = next(iter(images.batches(PROOF_IMAGES)))[0]
    names = [spec.name for spec in emitted.masked.outputs if np.issubdtype(spec.dtype, np.floating)]
    expected = numbers_of(open_stock(dense), inputs, names)

    def worst_of(other: ort.InferenceSession) -> float:
        return max(map(worst_relative, expected, numbers_of(other, inputs, names)))

    worst = worst_of(open_stock(path))
    # A very deep float32 graph may round by more than the tolerance; the runtime's own folding shows by how much.
    rounding = 0.0
    if worst > TOLERANCE:
        rounding = worst_of(open_stock(dense, optimised=False))
    dense.unlink()
    dense.with_name(dense.name + ".data").unlink(missing_ok=True)
    if worst > max(TOLERANCE, 2 * rounding):
        raise VerificationFailed(
            f"The written model differs from the masked dense graph by {worst:.1e} (relative; at most {TOLERANCE:g} is "
            "allowed), so nothing was kept. Please report it with the model; --emit dense avoids the hybrid operators."
        )
    native = None
    if runs_native(path):
        native = worst_of(session(path))
        if native > max(NATIVE_TOLERANCE, 2 * rounding):
            raise VerificationFailed(
                f"With the native kernels the written model differs from the masked dense graph by {native:.1e} "
                f"(relative; at most {NATIVE_TOLERANCE:g} is allowed), so nothing was kept. Please report it with the "
                "model; --emit dense avoids the hybrid operators."
            )
    return Equivalence(worst_relative=worst, native_worst_relative=native, images=len(inputs))
