"""`Head`, an output that scores classes, and `Outputs`, all of a graph, of which the user judges by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from crisp_onnx.errors import CrispError, nearest

Form = Literal["logits", "probabilities", "log-probabilities"]


@dataclass(frozen=True)
class Maps:
    """How scores of pixels lie: `grid`, height and width of the answers, and the axis along which classes lie."""

    grid: tuple[int, int]
    class_axis: int


@dataclass(frozen=True)
class Head:
    """An output that scores classes.

    `output`: its name. `form`: what its numbers are. `classes`: the number of its columns. `classifier`: names of the
    layers whose rows are the classes; empty where none was found.

    `logits`: the tensor that training reads, as `logits_form` says: what goes into the Softmax or Sigmoid, or the
    output itself. `exclusive`: an image has one class (Softmax, plain logits), or any number of them (Sigmoid).

    `maps`: the output scores the classes of pixels, and how; None for those of whole images.

    `beside`: other outputs whose answers matter too, as the untouched model gives them.
    """

    output: str
    form: Form
    classes: int
    classifier: tuple[str, ...]
    logits: str
    logits_form: Form
    exclusive: bool
    maps: Maps | None = None
    beside: tuple[Head, ...] = ()

    @property
    def trained(self) -> tuple[str, ...]:
        """The tensors that training reads: of this output, then of those beside it."""
        return (self.logits, *(head.logits for head in self.beside))

    @property
    def described(self) -> str:
        """For a message: `'probs' (6 classes, probabilities)`."""
        scores = self.form if self.exclusive else "independent probabilities" if self.form != "logits" else "logits"
        pixels = "" if self.maps is None else f" of {self.maps.grid[0]}x{self.maps.grid[1]} pixels"
        return f"{self.output!r} ({self.classes} classes, {scores}{pixels})"


@dataclass(frozen=True)
class Outputs:
    """What every output of a graph is: `heads` that score classes, and why each of the `others` does not, by name.

    `features`: rows that the classifier of a head reads; they are heads only where the user says so.
    """

    heads: tuple[Head, ...]
    features: tuple[Head, ...]
    others: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(head.output for head in (*self.heads, *self.features)), *self.others)

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    def chosen(self, names: Sequence[str], where: str) -> Head:
        """The head of the output named first, with those named behind it beside it; or the only one.

        Raises:
            CrispError: no such output, one that does not score classes, or none or several that do.
        """
        if names:
            first, *others = (self._named(name, where) for name in names)
            beside = {head.logits: head for head in others if head.logits != first.logits}
            return replace(first, beside=tuple(beside.values()))
        if not self.heads:
            reasons = "; ".join(self.others.values()) or "it has no output"
            raise CrispError(
                f"{where} cannot be judged by classes: {reasons}. Export the model with the scores of all classes as "
                "an output."
            )
        classifiers = {head.classifier or (head.output,) for head in self.heads}
        if len(classifiers) > 1:
            listed = " and ".join(head.described for head in self.heads)
            raise CrispError(
                f"{where} has several outputs that may score the classes: {listed}. Say which one with --output-name."
            )
        # Several outputs of one classifier say the same; probabilities may round to equal numbers, logits do not.
        return min(self.heads, key=lambda head: head.form != "logits")

    def notes(self, head: Head, cut: Sequence[str] = ()) -> tuple[str, ...]:
        """What a user should know of the choice of `head`. `cut`: outputs that are cut down together with it."""
        notes = [f"The classes are judged by output {head.described}."]
        if head.beside:
            listed = " and ".join(other.described for other in head.beside)
            notes.append(f"What the untouched model answers in {listed} counts too: masks and training heed it.")
        heeded = {head.output, *cut, *(other.output for other in head.beside)}
        rest = [other.described for other in self.heads if other.output not in heeded]
        rest += [f"{other.output!r} holds the features" for other in self.features if other.output not in heeded]
        rest += [reason for name, reason in self.others.items() if name not in cut]
        if cut:
            listed = ", ".join(map(repr, cut))
            notes.append(
                f"--head slice cuts {listed} down too: they answer for your classes alone, and a number of a class "
                "is its place in your class list."
            )
        if rest:
            notes.append(
                f"The other outputs stay as they are in the graph, but nothing looks after what they answer: "
                f"{'; '.join(rest)}. --output-name chooses another."
            )
        if not head.classifier:
            notes.append("No layer was found whose rows are the classes, so --head slice is not possible.")
        return tuple(notes)

    def _named(self, name: str, where: str) -> Head:
        for head in (*self.heads, *self.features):
            if head.output == name:
                return head
        if name in self.others:
            raise CrispError(f"Output {name!r} of {where} cannot be judged by classes: {self.others[name]}.")
        listed = ", ".join(map(repr, self.names))
        raise CrispError(f"{where} has no output {name!r}; it has {listed}.{nearest(name, self.names)}")
