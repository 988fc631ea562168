"""The command `saliency`: sums of every class, kept in a file; banks of several data sets added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crisp_onnx.cli_options import FILE, common, talk, tell
from crisp_onnx.errors import CrispError


@click.command()
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="MODEL | --merge BANK...")
@click.option("--merge", "merging", is_flag=True, help="Add up banks of one model, made of different images.")
@click.option("--data", type=FILE, help="Labelled images of every class that is to be asked for.")
@click.option("--classes", type=FILE, help="Only these classes.  [default: all that --data has images of]")
@click.option("--labels", type=FILE, help="As for compress.")
@click.option("--labels-offset", type=int, help="As for compress.")
@click.option("--class-order", type=click.Choice(["lexical", "natural"]), help="As for compress.")
@click.option("--output-name", multiple=True, help="As for compress.")
@click.option("--preprocess", help="As for compress.")
@click.option("--saliency", "criterion", help="crisp, fisher, wanda, act-l2 or firing.  [default: crisp]")
@click.option("--device", help="cpu or cuda.  [default: cpu]")
@click.option("--seed", type=int, help="That of the runs to come: it says which images are held out.  [default: 0]")
@click.option("-o", "--output", type=FILE, required=True, help="The bank, for example bank.safetensors.")
@common
def saliency(
    files: tuple[Path, ...], merging: bool, output: Path, as_json: bool, verbosity: int, **options: Any
) -> None:
    """Sum up once what compress --bank needs to know of MODEL, for every class.

    Under torchrun, processes share the classes.
    """
    talk(verbosity)
    from crisp_onnx.api import make_bank, merge_banks
    from crisp_onnx.report.views import bank_view

    given = {key: value for key, value in options.items() if value not in (None, ())}
    if merging:
        if given:
            raise CrispError(f"--merge takes banks and --output, not --{next(iter(given)).replace('_', '-')}.")
        tell(merge_banks(files, output=output), bank_view, as_json)
        return
    if len(files) != 1:
        raise CrispError("Name one model, or banks with --merge.")
    if "data" not in given:
        raise CrispError("--data is missing: sums are made over labelled images.")
    found = make_bank(files[0], output=output, **given)
    if found is not None:
        tell(found, bank_view, as_json)
