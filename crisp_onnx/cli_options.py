"""What every command of the command line shares: its options, how loud it talks, how it prints a result."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crisp_onnx.cli_streams import to_stdout
from crisp_onnx.reading import shown
from crisp_onnx.writing import HIDDEN

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)

MOST_PIXELS = 1 << 20


def _as_size(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Height and width from N or HxW."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 8 and 0 < int(part) < MOST_PIXELS for part in parts):
        raise click.BadParameter(f"{text} is no size in pixels; write N, or HxW.")
    return int(parts[0]), int(parts[-1])


def as_shares(context: click.Context, parameter: click.Parameter, text: str | None) -> float | tuple[float, ...] | None:
    """A number, or several with commas between them."""
    if text is None:
        return None
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text} is no share, nor several with commas between them.") from None
    return shares if len(shares) > 1 else shares[0]


LABELS = click.option(
    "--labels", type=FILE, help="Names of the outputs: lines in their order or with an index column, JSON or YAML."
)
LABELS_OFFSET = click.option(
    "--labels-offset", type=int, help="Output that the first row of --labels names, 1 behind background."
)
CLASS_ORDER = click.option(
    "--class-order", type=click.Choice(["lexical", "natural"]), help="How class folders number the outputs."
)
TASK = click.option(
    "--task", type=click.Choice(["classification", "segmentation"]), help="A class an image, or one a pixel."
)
OUTPUT_NAME = click.option("--output-name", help="The output that scores the classes, where the file has several.")
OUTPUT_NAMES = click.option(
    "--output-name", multiple=True, help="The output that scores the classes, then others whose answers are to stay."
)
PREPROCESS = click.option(
    "--preprocess",
    help="imagenet, unit, signed, raw, FILE.yaml, a preprocessor_config.json or timm's config.json, or "
    "mean=R/G/B,std=R/G/B,size=N or HxW.",
)
SIZE = click.option(
    "--size", metavar="N or HxW", callback=_as_size, help="Pixels of sides that MODEL leaves open.  [default: 224]"
)


class _Printable(logging.Formatter):
    """Lines that cannot steer a terminal, with paths as they are once the run has ended."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(shown(line) for line in HIDDEN.sub("", super().format(record)).split("\n"))


def talk(verbosity: int) -> None:
    """Talk goes to stderr, at a level that -q and -v choose; stdout is for results."""
    level = {-1: logging.ERROR, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    log = logging.getLogger("crisp_onnx")
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
    if verbosity < 1:  # what libraries warn of is for developers
        warnings.filterwarnings("ignore")


def quiet() -> bool:
    """Whether -q was given."""
    return not logging.getLogger("crisp_onnx").isEnabledFor(logging.INFO)


def common(command: F) -> F:
    """The options that every command takes."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)
    command = click.option("-q", "verbosity", flag_value=-1, type=int, help="Only errors, and the document of --json.")(
        command
    )
    return click.option("-v", "verbosity", flag_value=1, type=int, default=0, help="Every step.")(command)


def tell(found: Any, view: Callable[[Any], tuple[Any, ...]], as_json: bool) -> None:
    """Print `found` as one JSON document, or as the tables that `view` makes of it; -q leaves those out.

    Raises:
        CrispError: stdout is closed or full.
    """
    from crisp_onnx.report.table import show
    from crisp_onnx.report.views import document

    with to_stdout():
        if as_json:
            sys.stdout.write(document(found))
        elif not quiet():
            show(*view(found))
