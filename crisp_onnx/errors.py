"""Every error a user can meet: one or two sentences that say what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import ROUND_CEILING, Context

MOST_COMPARED = 50_000


class CrispError(Exception):
    """The input or the options are at fault. Printed without a traceback at the command line's border."""

    exit_code = 2


class BudgetMissed(CrispError):
    """The files are written, but a budget that the user set was not met."""

    exit_code = 3


class VerificationFailed(CrispError):
    """The written model does not answer as it must."""

    exit_code = 5


class Defect(CrispError):
    """This tool contradicts itself, for example the bridge and ONNX Runtime disagree. Not the user's fault."""

    exit_code = 1


def enough(amount: float) -> str:
    """A number that is not less, in four digits: what a refusal offers is taken when it is asked for."""
    return f"{float(Context(prec=4, rounding=ROUND_CEILING).create_decimal_from_float(amount)):g}"


def nearest(word: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A sentence naming the known words nearest to `word`, or an empty string."""
    words = list(known)
    if len(words) > MOST_COMPARED:  # each takes some of a millisecond
        return ""
    by_fold = {name.casefold(): name for name in words}
    close = difflib.get_close_matches(word.casefold(), list(by_fold), n=limit, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(by_fold[name]) for name in close)}?" if close else ""
