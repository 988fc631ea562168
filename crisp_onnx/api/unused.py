"""Refuse options of the command line that a run would not read: whoever gives one expects something of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe

_UNUSED: tuple[tuple[tuple[str, ...], Callable[[Recipe], bool], str], ...] = (
    (
        ("pattern", "block", "vector_rows", "masks", "allocation"),
        lambda recipe: recipe.method == "channels",
        "--method channels puts no zeros anywhere, and packs nothing. Leave it out, or let zeros follow with --method "
        "channels+hybrid",
    ),
    (
        ("round_channels",),
        lambda recipe: not recipe.narrows,
        "--method hybrid removes no channels. Leave it out, or use --method channels",
    ),
    (
        ("masks",),
        lambda recipe: recipe.reconstruct == "none",
        "--reconstruct none re-fits nothing, and by saliency alone are masks chosen then. Leave one of the two out",
    ),
)
"""Options, when they are not read, and why."""


def require_use(recipe: Recipe, given: Collection[str]) -> None:
    """Whether the run of `recipe` reads all the options that are `given`, by their keys in it.

    Raises:
        CrispError: one is not read.
    """
    for options, unused, why in _UNUSED:
        named = [option for option in options if option in given]
        if named and unused(recipe):
            raise CrispError(f"--{named[0].replace('_', '-')} is of no use: {why}.")
