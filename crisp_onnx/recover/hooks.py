"""`Hooks`: where a mode of recovery acts while the loop trains. What a mode does not say is left undone."""

from __future__ import annotations

from collections.abc import Callable

from crisp_onnx.recover.state import State

Again = Callable[[], None]


class Hooks:
    """The loop calls each with the number of the step, which counts from 0."""

    def before_step(self, step: int) -> None:
        """Before forward and backward: choose masks, set weights."""

    def after_backward(self, step: int, again: Again) -> None:
        """Gradients stand in the parameters, dense through the masks: watch or change them.

        `again` replaces them by those of the same batch for the weights as they are then; no statistic moves.
        """

    def after_step(self, step: int) -> None:
        """The optimiser has moved the weights."""

    def settled(self, step: int) -> bool:
        """Whether masks stay as they are from here on, so that weights of different steps can be compared."""
        return True

    def state(self) -> State:
        """All that the mode has come to."""
        return State()

    def load(self, state: State) -> None:
        """Take up where `state()` was taken."""
