"""What a run of `compress` is asked, read from model, options and data: whatever is refused is refused here."""

from __future__ import annotations

from dataclasses import dataclass

from crisp_onnx.api.acceptance import Accepted, accept
from crisp_onnx.api.bank_fit import fitting_bank
from crisp_onnx.api.class_order import mapping_note
from crisp_onnx.api.device import find_device
from crisp_onnx.api.int8_able import require_int8
from crisp_onnx.api.planning import level_planners, make_planner, rehearse
from crisp_onnx.api.prepare import Prepared, prepare
from crisp_onnx.api.sight import spares_some
from crisp_onnx.api.slicing import check_slicing, names_after_slicing, outputs_cut
from crisp_onnx.api.ways import WAYS, require_way
from crisp_onnx.api.width_split import rehearse_widths
from crisp_onnx.api.widths import recipe_for_blocks
from crisp_onnx.api.words import NameOptions, find_classes, find_form, find_labels
from crisp_onnx.data import Classes, Images, InputForm, Labels, Preprocess, Source
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan, Planner
from crisp_onnx.model import Model
from crisp_onnx.recipe import Recipe
from crisp_onnx.saliency import Bank
from crisp_onnx.task import Classification, task_of


@dataclass(frozen=True)
class Question:
    """`images` to learn from and `judged` to judge by, where they are given. `notes`: what the user should know.

    `rehearsed`: what `planner` plans where no layer is preferred, of the narrower network where channels go. `bank`:
    from which saliency is to be taken.
    """

    accepted: Accepted
    form: InputForm
    labels: Labels | None
    classes: Classes
    answers: Classification
    planner: Planner
    rehearsed: Plan
    images: Images | None
    judged: Images | None
    bank: Bank | None
    notes: tuple[str, ...]

    @property
    def prepared(self) -> Prepared:
        """The model, proven to answer as its file does."""
        return self.accepted.prepared


def read_question(recipe: Recipe, source: Model, data: Source | None, eval_data: Source | None) -> Question:
    """Prepare the model and find out what the options and the data mean for it.

    Raises:
        CrispError: the input or an option is at fault.
    """
    find_device(recipe.device)
    way = WAYS[recipe.task]
    require_way(way.refusal(recipe, data))
    form = find_form(recipe.preprocess, source, data, eval_data)
    if data is None and not isinstance(form, Preprocess):
        raise CrispError("Rows of values cannot be synthesised from a model. Give some to learn from with --data.")
    accepted = accept(prepare(source, size=form.size, output=recipe.output_name, task=recipe.task))
    prepared = accepted.prepared
    if recipe.precision == "int8":
        require_int8(prepared)
    head = prepared.head
    options = NameOptions(recipe.labels, recipe.labels_offset, recipe.class_order)
    named = find_labels(prepared, form, options, *way.naming(data, eval_data))
    labels = named.labels
    try:
        classes = find_classes(recipe.classes, labels, head.classes)
    except CrispError as error:
        why = named.notes if labels is None else ()
        raise CrispError(" ".join((str(error), *why))) from None
    require_way(way.refusal_of(classes))
    answers = task_of(head, classes.indices)
    cut = outputs_cut(prepared) if recipe.head == "slice" else ()
    notes = (*named.notes, *(prepared.outputs.notes(head, cut) if prepared.outputs.several else ()))
    if labels is not None and labels.of_data:
        notes += (mapping_note(labels, classes.indices),)
    if recipe.head == "slice":
        check_slicing(prepared, answers)
        notes += names_after_slicing(prepared, answers).notes
    planned = rehearse_widths(recipe, prepared) if recipe.narrows else None
    planner = make_planner(recipe_for_blocks(recipe), prepared)
    rehearsed = rehearse(planner) if planned is None else planned
    level_planners(recipe, planner)
    bank, told = fitting_bank(recipe, source, form, answers, planner.candidates.free, labels)
    notes += told
    images, judged = (
        None if s is None else way.open(s, classes, labels, form, head.classes) for s in (data, eval_data)
    )
    if recipe.sparsities and recipe.epochs is None and images is None:
        raise CrispError("Without --data nothing is trained, but --recovery nested has to: give --data or --epochs.")
    if recipe.patience is not None and (images is None or not spares_some(images)):
        raise CrispError("--patience needs images to hold out: give two of each class or more with --data.")
    notes += judged.told() if judged is not None else ()
    return Question(accepted, form, labels, classes, answers, planner, rehearsed, images, judged, bank, notes)
