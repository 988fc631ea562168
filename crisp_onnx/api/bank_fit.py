"""`compress --bank`: whether a bank serves this run, and what the user should know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crisp_onnx.api.bank import require_sums, subject_of, words_of
from crisp_onnx.data import InputForm, Labels
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, WeightLayer
from crisp_onnx.reading import shown
from crisp_onnx.recipe import Recipe
from crisp_onnx.saliency import criterion_named
from crisp_onnx.saliency.bank import Bank, differences, open_bank
from crisp_onnx.saliency.collection import shape_of
from crisp_onnx.task import Classification


def fitting_bank(
    recipe: Recipe,
    source: Model,
    form: InputForm,
    answers: Classification,
    layers: Sequence[WeightLayer],
    labels: Labels | None = None,
) -> tuple[Bank | None, tuple[str, ...]]:
    """The recipe's bank, if it names one, and what the user should know of it.

    `layers`: those that may become sparse. `labels`: what this run calls the outputs.

    Raises:
        CrispError: it is of another model, made with another preprocessing or for another criterion, or lacks a class.
    """
    if recipe.bank is None:
        return None, ()
    chosen = criterion_named(recipe.saliency)
    require_sums(chosen)
    if recipe.first_finetune:
        raise CrispError(
            f"--first-finetune {recipe.first_finetune} changes the network whose saliency counts, and the sums of a "
            "bank are of the network as it is. Leave --bank or --first-finetune out."
        )
    bank, name = open_bank(recipe.bank), shown(str(recipe.bank))
    asked = subject_of(source, answers.outputs, chosen, form, recipe.seed)
    unlike = differences(bank.subject, replace(asked, seed=bank.subject.seed))
    if unlike:
        raise CrispError(
            f"The bank {name} does not serve this run: {unlike[0]}. Make one of {source.path.name} with `crisp-onnx "
            "saliency` and the options of this run."
        )
    _require_classes(bank, answers.wanted)
    unalike = _named_alike(bank, answers.wanted, labels)
    unknown = [layer.weight for layer in layers if bank.shapes.get(layer.weight) != shape_of(chosen, layer)]
    if unknown:
        raise CrispError(f"The bank {name} does not know weight {unknown[0]!r} as it is. Make it anew.")
    bank.require_sound(answers.wanted, [layer.weight for layer in layers])
    notes = [
        f"Saliency comes from {recipe.bank.name}, over {sum(bank.images[i] for i in answers.wanted):,} images.",
        *unalike,
    ]
    if bank.subject.seed != recipe.seed:
        notes.append(
            f"The bank was made with seed {bank.subject.seed} and this run has {recipe.seed}: images held out here are "
            "among those that it was summed over."
        )
    return bank, tuple(notes)


def _require_classes(bank: Bank, wanted: Sequence[int]) -> None:
    """Refuse where the bank has no sums of a wanted class, with the reason as far as it is known."""
    lacking = bank.lacks(wanted)
    if not lacking:
        return
    index, empty, unasked = lacking[0], "its data had no images of it", "it was made with --classes that left it out"
    why = f"{empty}, or {unasked}"
    if bank.origin is not None:
        why = unasked if index in bank.origin.left_out else empty
    raise CrispError(
        f"The bank {shown(str(bank.path))} holds no sums of output {index}: {why}. Make it of data and --classes that "
        "have the class, or take it off the list."
    )


def _named_alike(bank: Bank, wanted: Sequence[int], labels: Labels | None) -> tuple[str, ...]:
    """A note where it is not known whether bank and run call the outputs alike.

    Raises:
        CrispError: a wanted class is another output in the bank.
    """
    if bank.origin is None:
        return (
            f"{bank.path.name} was written before banks kept the names of outputs, so it is not known whether its data "
            "took the same classes for the same outputs.",
        )
    told = bank.origin.names
    if labels is None or not told:
        return ()
    places: dict[str, list[int]] = {}
    for index, words in told.items():
        for word in words:
            places.setdefault(word, []).append(index)
    for index in wanted:
        own = words_of(labels.entries[index]) if index in labels.entries else ()
        if set(own) & set(told.get(index, ())):
            continue
        other = next((places[word][0] for word in own if word in places), None)
        if other is not None:
            raise CrispError(
                f"The bank {shown(str(bank.path))} was made where {labels.name(index)!r} was output {other}, and here "
                f"it is output {index}: its sums are of other classes. Make it anew with the --labels, --labels-offset "
                "and --class-order of this run."
            )
    return ()
