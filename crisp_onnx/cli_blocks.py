"""The command `blocks`: what each residual block does for the user's images, and the model without some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crisp_onnx.cli_options import (
    CLASS_ORDER,
    FILE,
    LABELS,
    LABELS_OFFSET,
    OUTPUT_NAME,
    PREPROCESS,
    TASK,
    common,
    talk,
    tell,
)


@click.command()
@click.argument("model", type=FILE)
@click.option("--classes", type=FILE, required=True, help="As for compress.")
@click.option("--data", type=FILE, required=True, help="Images of the classes; no labels are needed.")
@LABELS
@LABELS_OFFSET
@CLASS_ORDER
@TASK
@OUTPUT_NAME
@PREPROCESS
@click.option("--drop-blocks", "drop", type=click.IntRange(min=1), help="So many go, the least missed; needs --output.")
@click.option("-o", "--output", type=FILE, help="The model without them, for example shorter.onnx.")
@common
def blocks(model: Path, drop: int | None, output: Path | None, as_json: bool, verbosity: int, **options: Any) -> None:
    """Say how alike what each residual block of MODEL reads and gives is, and how the answers move without it.

    With --drop-blocks, write the model without those that are missed least; compress takes it like any other.
    """
    talk(verbosity)
    from crisp_onnx.api import blocks as run
    from crisp_onnx.recipe import make_recipe
    from crisp_onnx.report.views import blocks_view

    given = {key: value for key, value in options.items() if value not in (None, ())}
    found = run(make_recipe({"model": model, **given}), drop=drop or 0, output=output)
    tell(found, blocks_view, as_json)
