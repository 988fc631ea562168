"""Which layers the user's regular expressions leave dense.

Some expressions take longer than the universe is old on the wrong name, and no thread can stop them, so a child process
looks for the matches and has seconds to do it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.model import WeightLayer

LIMIT_S = 10.0

_CHILD = """
import json, re, sys
expressions, names = json.load(sys.stdin)
for expression in expressions:
    try:
        search = re.compile(expression).search
    except Exception as error:
        found = str(error) or type(error).__name__
    else:
        found = [search(name) is not None for name in names]
    print(json.dumps(found), flush=True)
"""


def left_dense(
    expressions: Sequence[str], layers: Sequence[WeightLayer], *, limit_s: float = LIMIT_S
) -> dict[str, str]:
    """The reason to stay dense by the name of each layer whose node or weight name an expression fits.

    Raises:
        CrispError: an expression that is malformed, takes too long, or fits no layer: a typing error would otherwise
            pass unseen.
    """
    if not expressions:
        return {}
    names = [name for layer in layers for name in (layer.name, layer.weight)]
    answers = _ask(expressions, names, limit_s)
    kept: dict[str, str] = {}
    for number, expression in enumerate(expressions):
        found = json.loads(answers[number]) if number < len(answers) else None
        if found is None:
            raise CrispError(
                f"--keep-dense {expression!r} is too much work to look for. Write it without repeats inside repeats "
                "such as (a+)+."
            )
        if isinstance(found, str):
            raise CrispError(f"--keep-dense {expression!r} is not a regular expression: {found}.")
        fits = [layer.name for place, layer in enumerate(layers) if any(found[2 * place : 2 * place + 2])]
        if not fits:
            raise CrispError(
                f"--keep-dense {expression!r} fits none of the {len(layers)} weight layers."
                f"{nearest(expression, names)} `crisp-onnx check` lists them all."
            )
        kept = dict.fromkeys(fits, f"kept dense by the user ({expression})") | kept
    return kept


def _ask(expressions: Sequence[str], names: Sequence[str], limit_s: float) -> list[str]:
    """A line of JSON for each expression, as far as the child came in time."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CHILD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="ascii",
    )  # fmt: skip
    try:
        answers, _ = child.communicate(json.dumps([list(expressions), list(names)]), timeout=limit_s)
    except subprocess.TimeoutExpired:
        child.kill()
        answers, _ = child.communicate()
    finally:
        child.kill()
    lines = answers.splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]
