"""The command `compress`: its options are the recipe's, and the exit code says whether budgets were met."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from crisp_onnx.cli_options import (
    CLASS_ORDER,
    FILE,
    LABELS,
    LABELS_OFFSET,
    OUTPUT_NAMES,
    PREPROCESS,
    TASK,
    as_shares,
    common,
    quiet,
    talk,
)
from crisp_onnx.cli_signals import RESUMED
from crisp_onnx.cli_streams import complain, to_stdout
from crisp_onnx.errors import BudgetMissed, CrispError


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option("--classes", type=FILE, help="One class a line: output index, name or synset id.")
@click.option("--data", type=FILE, help="Images to learn from: folder, .npz or CIFAR archive. None: synthesise some.")
@click.option("--eval-data", type=FILE, help="Images to judge by; never used to choose anything.")
@TASK
@LABELS
@LABELS_OFFSET
@CLASS_ORDER
@OUTPUT_NAMES
@PREPROCESS
@click.option(
    "--method",
    type=click.Choice(["hybrid", "channels", "channels+hybrid"]),
    help="Packed zeros, fewer channels (fast in any runtime), or both.  [default: hybrid]",
)
@click.option(
    "--widths", type=click.Choice(["gates", "saliency"]), help="What finds the channels that go.  [default: saliency]"
)
@click.option("--round-channels", type=int, help="Widths are multiples of this.  [default: 8]")
@click.option("--pattern", help="N:M, kept of every M input channels.  [default: the target's, or 2:4]")
@click.option("--block", type=int, help="Side of a block.  [default: the target's, or 16]")
@click.option("--vector-rows", type=int, help="Rows that share an N:M choice.  [default: the target's, or 8]")
@click.option(
    "--sparsity", callback=as_shares, metavar="SHARE[,SHARE...]",
    help="Zeros over the weights of the layers made sparse; several with --recovery nested.  [default: 0.8]",
)  # fmt: skip
@click.option("--macs", type=float, help="MACs to execute, over those of the whole model; instead of --sparsity.")
@click.option("--latency-ms", type=float, help="Estimated time on the hardware target; instead of --sparsity.")
@click.option("--energy-mj", type=float, help="Estimated energy on the hardware target; instead of --sparsity.")
@click.option("--speedup", type=float, help="Times as fast on this host, measured; instead of --sparsity.")
@click.option("--saliency", help="crisp, fisher, magnitude, wanda, act-l2, firing, random.  [default: crisp]")
@click.option("--bank", type=FILE, help="Sums of every class that `crisp-onnx saliency` made, to take saliency from.")
@click.option(
    "--reorder/--no-reorder", default=None, help="Channels in the order that suits the pattern.  [default: reorder]"
)
@click.option(
    "--reconstruct",
    type=click.Choice(["none", "least-squares"]),
    help="Re-fit the weights that are left, layer by layer.  [default: least-squares]",
)
@click.option(
    "--allocation",
    type=click.Choice(["error", "saliency", "sensitivity", "search"]),
    help="What layers share the budget by: error after the fit, measured; saliency; how much the loss minds it in each "
    "layer; or a search over 32 plans.  [default: error]",
)
@click.option(
    "--masks",
    type=click.Choice(["saliency", "obs", "alps"]),
    help="What least squares re-fit: chosen by saliency, or by the error that is left.  [default: alps]",
)
@click.option(
    "--recovery",
    help="fixed: masks once before training; ramp: anew while it goes on; nested: several sparsities at once; "
    "straight-through, sr-ste, soft-shrink, grow-and-prune, cram.  [default: fixed]",
)
@click.option("--first-finetune", type=int, help="Passes of the dense model first, which teaches then.  [default: 0]")
@click.option("--epochs", type=int, help="Passes of fine-tuning.  [default: 20 with images, 0 without]")
@click.option("--patience", type=int, help="End training after N epochs that held-out images did not gain by.")
@click.option("--head", type=click.Choice(["keep", "slice"]), help="All outputs, or the user's alone.  [default: keep]")
@click.option("--keep-dense", multiple=True, metavar="REGEX", help="Layers to leave dense; may be repeated.")
@click.option(
    "--emit", type=click.Choice(["hybrid", "dense"]), help="Packed operators, or zeros in place.  [default: hybrid]"
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    help="int8 is for classification.  [default: fp32]",
)
@click.option("--one-file", is_flag=True, default=None, help="Keep weights over 4 MiB in model.onnx, not beside it.")
@click.option("--target", help="Hardware NAME or FILE.yaml; portable: no timing.  [default: this host, layers timed]")
@click.option("--device", help="cpu or cuda.  [default: cpu]")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--resume", is_flag=True, help="Go on where a run like this one into the same folder was stopped.")
@click.option("--recipe", "recipe_file", type=FILE, help="YAML with these options; the command line wins over it.")
@click.option("-o", "--output", type=FILE, help="Folder for the results.  [default: MODEL-crisp]")
@common
def compress(recipe_file: Path | None, resume: bool, as_json: bool, verbosity: int, **options: Any) -> None:
    """Compress MODEL for some classes; write model.onnx, report.json and recipe.yaml.

    Under torchrun, processes share classes and batches.
    """
    talk(verbosity)
    from crisp_onnx.api import assist
    from crisp_onnx.api import compress as run
    from crisp_onnx.api import compress_nested as run_nested
    from crisp_onnx.api.results import results_in
    from crisp_onnx.api.unused import require_use
    from crisp_onnx.api.workshop import ELSEWHERE
    from crisp_onnx.processes import started_by_torchrun
    from crisp_onnx.recipe import make_recipe, merged, read_recipe
    from crisp_onnx.report.schema import to_json
    from crisp_onnx.report.table import line, show, summary
    from crisp_onnx.report.wording import budget_texts
    from crisp_onnx.writing import keep_inputs

    given = {key: value for key, value in options.items() if value not in (None, ())}
    written = read_recipe(recipe_file) if recipe_file else {}
    recipe = make_recipe(merged(written, given), where="the options")
    require_use(recipe, given)
    for folder in recipe.folders if recipe_file else ():
        keep_inputs(results_in(folder), [recipe_file], ELSEWHERE)
    if not started_by_torchrun().first:
        talk(-1)
        assist(recipe)
        return
    try:
        reports = run_nested(recipe, resume=resume) if recipe.sparsities else (run(recipe, resume=resume),)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or (RESUMED if resume else "")) from None
    try:
        with to_stdout():
            if as_json:
                texts = [to_json(report) for report in reports]
                sys.stdout.write(f"[{','.join(texts)}]\n" if recipe.sparsities else texts[0])
            elif not quiet():
                for report, folder in zip(reports, recipe.folders, strict=True):
                    show(summary(report), line(f"Written to {folder}: {', '.join(report.files)}"))
    except CrispError as error:  # the files are written: that is what the exit code is about
        complain(f"{error} The files are written to {recipe.folder}.")
    budgets = [budget for report in reports for budget in report.budgets]
    missed = [
        "{}: asked {}, reached {}".format(b.name, *budget_texts(b.asked, b.reached)) for b in budgets if not b.met
    ]
    if missed:
        raise BudgetMissed(f"The files are written, but a budget was missed ({'; '.join(missed)}).")
