"""The command `explore`: a sweep over sparsity, pattern and block under a time budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crisp_onnx.cli_options import CLASS_ORDER, FILE, LABELS, LABELS_OFFSET, OUTPUT_NAME, PREPROCESS, common, talk, tell
from crisp_onnx.errors import CrispError

SPARSITIES = "0.5,0.6,0.7,0.75,0.8,0.825,0.85,0.875,0.9,0.92,0.94,0.95,0.96,0.97"


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option("--classes", type=FILE, help="One class a line, as for compress.")
@click.option("--data", type=FILE, help="Images to learn from, as for compress.")
@click.option("--eval-data", type=FILE, help="Labelled images to judge by.  [default: a part of --data]")
@LABELS
@LABELS_OFFSET
@CLASS_ORDER
@OUTPUT_NAME
@PREPROCESS
@click.option("--sparsities", default=SPARSITIES, show_default=True, help="Shares of zeros to choose from.")
@click.option("--patterns", default="2:4,1:4", show_default=True, help="N:M to choose from.")
@click.option("--blocks", default="16,32", show_default=True, help="Sides of blocks to choose from.")
@click.option("--vector-rows", "rows", default="8", show_default=True, help="Rows that share an N:M choice.")
@click.option("--minutes", type=float, default=30, show_default=True, help="When no further point is begun.")
@click.option("--points", type=int, help="Points without training, at most.  [default: what half the time allows]")
@click.option("--trained", type=int, default=3, show_default=True, help="How many of the best are trained, at most.")
@click.option("--epochs", type=int, help="Passes of fine-tuning of those.  [default: 20]")
@click.option("--storage", help="Journal file or database URL that machines share.  [default: study.journal in OUTPUT]")
@click.option("--target", help="As for compress.")
@click.option("--device", help="cpu or cuda.  [default: cpu]")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--recipe", "recipe_file", type=FILE, help="YAML with options of compress that all points share.")
@click.option("-o", "--output", type=FILE, help="Folder for the results.  [default: MODEL-explored]")
@common
def explore(
    recipe_file: Path | None,
    sparsities: str,
    patterns: str,
    blocks: str,
    rows: str,
    minutes: float,
    points: int | None,
    trained: int,
    storage: str | None,
    as_json: bool,
    verbosity: int,
    **options: Any,
) -> None:
    """Find out what MODEL gives at which price: many points without training, the best of them trained.

    Each point has a recipe of its own under OUTPUT/points; front.svg shows accuracy against MACs, bytes and measured
    time. The same command goes on where it was stopped.
    """
    talk(verbosity)
    from crisp_onnx.api import explore as run
    from crisp_onnx.api.exploration import Limits
    from crisp_onnx.api.study import Space
    from crisp_onnx.recipe import make_recipe, merged, read_recipe
    from crisp_onnx.report.exploration import exploration_view

    space = Space(
        _parts(sparsities, "--sparsities", float),
        _parts(patterns, "--patterns", str),
        _parts(blocks, "--blocks", int),
        _parts(rows, "--vector-rows", int),
    )
    given = {key: value for key, value in options.items() if value is not None}
    recipe = make_recipe(merged(read_recipe(recipe_file) if recipe_file else {}, given), where="the options")
    if recipe.output is None:
        recipe = recipe.model_copy(update={"output": Path(f"{recipe.model.stem}-explored")})
    found = run(recipe, space=space, limits=Limits(minutes, points, trained), storage=storage)
    tell(found, exploration_view, as_json)


def _parts(text: str, option: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(dict.fromkeys(kind(part.strip()) for part in text.split(",")))
    except ValueError:
        raise CrispError(f"{option} {text} is not a list such as {'16,32' if kind is int else '0.8,0.9'}.") from None
