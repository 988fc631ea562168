"""Say where a target computes in another type than the model: what follows is then the price of a model like it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crisp_onnx.lowering.schema import Dtype

_AS_IF: dict[tuple[Dtype, Dtype], str] = {
    ("fp32", "int8"): ", as if quantised (`crisp-onnx compress --precision int8` does that)",
    ("fp16", "int8"): ", as if quantised (`crisp-onnx compress --precision int8` does that)",
    ("fp32", "fp16"): ", as if converted (the target's own tools do that)",
    ("fp16", "fp32"): ", as if converted",
    ("int8", "fp16"): ", as if never quantised",
    ("int8", "fp32"): ", as if never quantised",
}


def retyped(layers: Sequence[tuple[Dtype, Dtype, bool]], known: Sequence[Dtype], *, asked: bool) -> tuple[str, ...]:
    """A sentence for each change of type, without the full stop.

    `layers`: (the type of the model, that of the price, whether it is a product). `known`: the types of the
    target. `asked`: whether the user chose the type.
    """
    # What only moves data follows the products around it.
    counted = [layer for layer in layers if layer[2]] or list(layers)
    changed = Counter((stated, priced) for stated, priced, _ in counted if stated != priced)
    return tuple(
        f"{_who(number, len(counted))} in {stated} and priced in {priced}{_AS_IF[stated, priced]}: "
        f"{_why(known, stated, priced, asked=asked)}"
        for (stated, priced), number in changed.most_common()
    )


def _who(number: int, of: int) -> str:
    if number == of:
        return "The model is"
    return f"{number} of {of} products of the model {'is' if number == 1 else 'are'}"


def _why(known: Sequence[Dtype], stated: Dtype, priced: Dtype, *, asked: bool) -> str:
    if asked:
        return f"--dtype {priced} was given"
    if stated not in known:
        more = f"in {known[0]} alone" if len(known) == 1 else f"in {' and '.join(known)}; --dtype chooses"
        return f"the target computes {more}"
    return f"the target's first type; --dtype {stated} prices it as it is"
