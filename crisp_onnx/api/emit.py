"""From a trained model and its plan to the file: run the emission passes, write, load again, and prove equality."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.api.slicing import slice_head
from crisp_onnx.data import Images
from crisp_onnx.errors import CrispError, VerificationFailed
from crisp_onnx.format import with_bodies
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, Size, TensorSpec, save
from crisp_onnx.passes import ApplyMasks, Declined, EmitHybrid, dense_passes, hybrid_passes, run_passes
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.schema import Equivalence
from crisp_onnx.runtime.evaluate import numbers_of, open_stock, worst_relative
from crisp_onnx.runtime.latency import seeded_input
from crisp_onnx.runtime.never_slower import judge_layers
from crisp_onnx.runtime.opening import runs_native, session
from crisp_onnx.runtime.profit import Verdict
from crisp_onnx.task import Classification

TOLERANCE, NATIVE_TOLERANCE = 1e-5, 1e-4
PROOF_IMAGES = 8
ZEROS_IN_PLACE = "stored with zeros in place, as asked (--emit dense)"
MOST_NAMED = 5


@dataclass(frozen=True)
class Emitted:
    """`model` as it goes to the file, `masked` the dense graph with zeros in place that it must equal.

    `plan`: the planned layers less those that are stored with zeros in place, for the reasons given there. `verdicts`:
    by layer name, where layers were timed on this host at the density that they have in the end.
    """

    model: Model
    masked: Model
    plan: Plan
    declined: tuple[Declined, ...]
    verdicts: Mapping[str, Verdict]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Rewritten:
    model: Model
    declined: tuple[Declined, ...]


def emit(
    trained: Model, plan: Plan, recipe: Recipe, prepared: Prepared, answers: Classification, *, timed: bool
) -> Emitted:
    """Rewrite the trained model into the form that the recipe asks for.

    `timed`: hybrid operators are timed on this host, at the density that they have now.
    """
    masked_graph = trained.graph()
    if recipe.head == "slice":
        slice_head(masked_graph, prepared, answers)
    run_passes((ApplyMasks(plan),), masked_graph)
    masked = trained.with_graph(masked_graph)
    emitted = plan if recipe.emit == "hybrid" else plan.without({s.layer.name: ZEROS_IN_PLACE for s in plan.sparse()})
    rewritten = _rewrite(masked, emitted)
    left = {d.node: d.reason for d in rewritten.declined if d.pass_name == EmitHybrid.name}
    emitted = emitted.without({name: f"stored with zeros in place: {reason}" for name, reason in left.items()})
    verdicts = judge_layers(rewritten.model, size=prepared.size).verdicts if timed else {}
    return Emitted(rewritten.model, masked, emitted, rewritten.declined, verdicts, emission_notes(recipe, verdicts))


def _rewrite(masked: Model, plan: Plan) -> _Rewritten:
    """The masked graph with the plan's sparse layers in hybrid operators; the other layers keep their zeros."""
    graph = masked.graph()
    declined = run_passes(hybrid_passes(plan) if any(plan.sparse()) else dense_passes(plan), graph)
    return _Rewritten(with_bodies(masked.with_graph(graph)), declined)


def emission_notes(recipe: Recipe, verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    """What the user should know of the file. `verdicts`: see `Emitted`."""
    if recipe.emit == "dense" and recipe.method != "channels":
        return (
            "Zeros stand in place in ordinary operators, as asked (--emit dense): ONNX Runtime computes with them, and "
            "what skips them is up to the engine that runs the file.",
        )
    slower = [name for name, verdict in verdicts.items() if verdict.sparse_ms > verdict.times.dense_ms]
    if not slower:
        return ()
    named = ", ".join(slower[:MOST_NAMED]) + (", ..." if len(slower) > MOST_NAMED else "")
    return (f"{len(slower)} sparse layers took longer than dense when they were timed again at the end: {named}.",)


def proof_inputs(sources: Iterable[Images | None], spec: TensorSpec, size: Size) -> npt.NDArray[np.float32]:
    """Inputs for `prove`: the first images of the first source that has some, or seeded noise where none has.

    A source that cannot be read any more must not cost a model that is finished.
    """
    for images in sources:
        if images is not None:
            with suppress(CrispError):
                return next(iter(images.batches(PROOF_IMAGES)))[0]
    return seeded_input(spec, batch=PROOF_IMAGES, size=size)


def prove(emitted: Emitted, path: Path, inputs: npt.NDArray[np.float32]) -> Equivalence:
    """Load the written file in stock ONNX Runtime, and with the native kernels where they work, and compare.

    Raises:
        VerificationFailed: the file's answers differ from those of the masked dense graph by more than 1e-5, and by
            more than ONNX Runtime's own rewriting changes that graph's answers; or the native kernels' by more than
            1e-4, as every layer of theirs adds in an order of its own.
    """
    proof = path.with_name("proof")
    proof.mkdir()
    dense = proof / "masked-dense.onnx"
    save(emitted.masked, dense)
    names = [spec.name for spec in emitted.masked.outputs if np.issubdtype(spec.dtype, np.floating)]
    expected = numbers_of(open_stock(dense), inputs, names)

    def worst_of(other: ort.InferenceSession) -> float:
        return max(map(worst_relative, expected, numbers_of(other, inputs, names)))

    worst = worst_of(open_stock(path))
    # A very deep float32 graph may round by more than the tolerance; the runtime's own folding shows by how much.
    rounding = 0.0
    if worst > TOLERANCE:
        rounding = worst_of(open_stock(dense, optimised=False))
    shutil.rmtree(proof)
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
