"""`--head slice`: cut the head and its names to the user's classes, and find out early whether that is possible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.data import cut_names
from crisp_onnx.errors import CrispError
from crisp_onnx.model.answers import open_model, relative_difference, seeded_image
from crisp_onnx.passes import SliceHead, run_passes
from crisp_onnx.reading import reason
from crisp_onnx.task import Classification, layers_behind
from crisp_onnx.task.score import shares_of_wanted

TOLERANCE = 1e-4


def slice_head(graph: gs.Graph, prepared: Prepared, answers: Classification) -> None:
    """Cut the head of `graph`, in place.

    Raises:
        CrispError: something behind the classifier is not understood class by class.
    """
    declined = run_passes((SliceHead(prepared.head, answers.wanted, prepared.shapes),), graph)
    if declined:
        raise CrispError(
            f"--head slice is not possible: {declined[0].reason} (at {declined[0].node!r}). Use --head keep."
        )


@dataclass(frozen=True)
class CutNames:
    """`kept`: metadata entries for the columns that are left; `dropped`: keys of names that cannot be cut."""

    kept: dict[str, str]
    dropped: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        if not self.dropped:
            return ()
        listed = ", ".join(map(repr, self.dropped))
        return (
            f"The result leaves out what the model's metadata say under {listed}: they name other outputs than the "
            "model has, and so cannot be cut to your classes.",
        )


def outputs_cut(prepared: Prepared) -> tuple[str, ...]:
    """Names of the other outputs that are made of what the classifier answers, so that slicing changes them."""
    graph, head = prepared.model.view, prepared.head
    others = [name for name in prepared.outputs.names if name != head.output]
    return tuple(name for name in others if layers_behind(graph, [name]) & set(head.classifier))


def names_after_slicing(prepared: Prepared, answers: Classification) -> CutNames:
    """The names of the outputs in the file's own metadata, cut as the head is."""
    return CutNames(*cut_names(prepared.source.metadata, answers.wanted, prepared.head.classes))


def check_slicing(prepared: Prepared, answers: Classification) -> None:
    """Cut the untouched model and compare its answers with the columns of the whole one, on a seeded image.

    Raises:
        CrispError: the head cannot be cut, or a model with one class alone would have nothing left to say.
    """
    if len(answers.wanted) == 1 and answers.exclusive:
        raise CrispError(
            "--head slice to a single class leaves an output that has nothing to compare it with. Use --head keep, or "
            "name a second class."
        )
    graph = prepared.model.graph()
    slice_head(graph, prepared, answers)
    cut = prepared.model.with_graph(graph)
    spec = prepared.model.input
    batch = spec.shape[0] if spec.shape and spec.shape[0] is not None else prepared.batch or 2
    image = seeded_image(spec, batch, prepared.size)
    whole = open_model(prepared.model).run({spec.name: image})[answers.output]
    try:
        found = open_model(cut).run({spec.name: image})[answers.output]
    except Exception as error:  # onnxruntime raises many unrelated types
        raise CrispError(
            f"--head slice is not possible: cut down, the model does not run ({reason(error)}). Use --head keep."
        ) from error
    expected = shares_of_wanted(whole, answers)
    if relative_difference(answers.rows(np.asarray(found)), expected) > TOLERANCE:
        raise CrispError(
            "--head slice is not possible: cut down, the model does not answer with the columns of the classes. Use "
            "--head keep."
        )
