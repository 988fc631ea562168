"""The command line: each command is a few lines over the function of the same name in `crisp_onnx`."""

from __future__ import annotations

import io
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import click

from crisp_onnx.cli_blocks import blocks
from crisp_onnx.cli_explore import explore
from crisp_onnx.cli_options import (
    CLASS_ORDER,
    FILE,
    LABELS,
    LABELS_OFFSET,
    OUTPUT_NAME,
    OUTPUT_NAMES,
    PREPROCESS,
    TASK,
    as_shares,
    common,
    quiet,
    talk,
    tell,
)
from crisp_onnx.cli_saliency import saliency
from crisp_onnx.cli_signals import heard
from crisp_onnx.cli_streams import complain, prepare_streams, to_stdout
from crisp_onnx.cli_targets import COMMANDS
from crisp_onnx.errors import BudgetMissed, CrispError
from crisp_onnx.reading import reason
from crisp_onnx.writing import HIDDEN

log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="crisp-onnx")
def cli() -> None:
    """Compress trained ONNX classifiers for the classes their user really meets.

    Exit codes: 0 done, 1 a defect of ours, 2 usage or input, 3 written but a budget was missed, 5 verification
    failed, 130 interrupted.
    """


@cli.command()
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
    "--precision", type=click.Choice(["fp32", "int8"]), help="Weights and activations in bytes.  [default: fp32]"
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
    for folder in recipe.folders if recipe_file else ():
        keep_inputs(results_in(folder), [recipe_file], ELSEWHERE)
    if not started_by_torchrun().first:
        talk(-1)
        assist(recipe)
        return
    try:
        reports = run_nested(recipe, resume=resume) if recipe.sparsities else (run(recipe, resume=resume),)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or ("; the same command goes on from here" if resume else "")) from None
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


@cli.command()
@click.argument("model", type=FILE)
@click.option("--pattern", default="2:4", show_default=True, help="N:M that layers are checked against.")
@click.option("--block", type=int, default=16, show_default=True, help="Side of a block.")
@click.option("--vector-rows", type=int, default=8, show_default=True, help="Rows that share an N:M choice.")
@click.option("--groups", is_flag=True, help="Every group of channels: its operators, its savings, what binds it.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", help="Whether it can be int8 too.")
@TASK
@OUTPUT_NAMES
@PREPROCESS
@common
def check(
    model: Path,
    pattern: str,
    block: int,
    vector_rows: int,
    groups: bool,
    precision: Literal["fp32", "int8"],
    task: str | None,
    output_name: tuple[str, ...],
    preprocess: str | None,
    as_json: bool,
    verbosity: int,
) -> None:
    """Say what can be gained on MODEL and what not, layer by layer; exit with 2 where compress would refuse it."""
    talk(verbosity)
    from crisp_onnx.api import check as run
    from crisp_onnx.format import parse_pattern
    from crisp_onnx.report.views import check_view, groups_view

    chosen = parse_pattern(pattern, block=block, vector_rows=vector_rows)
    found = run(
        model,
        pattern=chosen,
        preprocess=preprocess,
        output_name=output_name,
        precision=precision,
        task=task or "classification",
    )
    tell(found, groups_view if groups else check_view, as_json)
    if found.refusal:
        raise CrispError(found.refusal)


@cli.command()
@click.argument("model", type=FILE)
@OUTPUT_NAME
@click.option("--netron", is_flag=True, help="Then show the model in Netron until Ctrl-C.")
@common
def inspect(model: Path, output_name: str | None, netron: bool, as_json: bool, verbosity: int) -> None:
    """Recount a compressed MODEL: patterns, rows of blocks, bytes against the formula."""
    talk(verbosity)
    from crisp_onnx.api import inspect as run
    from crisp_onnx.report.views import inspect_view

    viewer = _netron() if netron else None
    tell(run(model, output_name=output_name), inspect_view, as_json)
    if viewer is not None:
        _serve(viewer, model)


@cli.command()
@click.argument("original", type=FILE)
@click.argument("compressed", type=FILE)
@click.option("--data", type=FILE, help="Labelled images to judge by.")
@click.option("--classes", type=FILE, help="Class list; by default the one that COMPRESSED was made for.")
@TASK
@LABELS
@LABELS_OFFSET
@CLASS_ORDER
@OUTPUT_NAME
@PREPROCESS
@common
def verify(
    original: Path,
    compressed: Path,
    as_json: bool,
    verbosity: int,
    **options: Any,
) -> None:
    """Compare ORIGINAL and COMPRESSED: accuracy, agreement, difference, size, latency side by side."""
    talk(verbosity)
    from crisp_onnx.api import verify as run
    from crisp_onnx.report.views import verify_view

    tell(run(original, compressed, **options), verify_view, as_json)


@cli.command()
@common
def doctor(as_json: bool, verbosity: int) -> None:
    """Show versions, processor features, and what is missing with what to do about it."""
    talk(verbosity)
    from crisp_onnx.report.doctor import doctor as run
    from crisp_onnx.report.views import doctor_view

    tell(run(), doctor_view, as_json)


@cli.command()
@click.argument("model", type=FILE)
@click.option("--against", type=FILE, help="Another model to compare with.  [default: MODEL itself, dense]")
@click.option("--threads", default="1", show_default=True, help="Thread counts, separated by commas.")
@click.option("--batch", help="Batch sizes, separated by commas.  [default: the one that MODEL fixes, or 1]")
@click.option("--per-layer", is_flag=True, help="Also time every sparse layer alone, against its dense self.")
@click.option("--plot", type=FILE, help="Write a bar chart of the layers, .svg or .png.")
@common
def bench(
    model: Path,
    against: Path | None,
    threads: str,
    batch: str | None,
    per_layer: bool,
    plot: Path | None,
    as_json: bool,
    verbosity: int,
) -> None:
    """Measure a compressed MODEL on this machine, side by side with its dense self or another model."""
    talk(verbosity)
    from crisp_onnx.report.bench_view import bench_view
    from crisp_onnx.report.layer_plot import require_plot, write_layer_plot
    from crisp_onnx.runtime.bench import bench as run
    from crisp_onnx.writing import keep_inputs

    if plot is not None:
        keep_inputs([plot], [model, against], "Choose another name for the plot.")
        require_plot(plot)
    found = run(
        model,
        against,
        threads=_numbers(threads, "--threads"),
        batch=() if batch is None else _numbers(batch, "--batch"),
        per_layer=per_layer or plot is not None,
    )
    tell(found, bench_view, as_json)
    if plot is not None:
        write_layer_plot(found, plot)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise CrispError(f"{option} {text} is not a list of numbers such as 1,2.") from None


for _command in (blocks, explore, saliency, *COMMANDS):
    cli.add_command(_command)


def _netron() -> Any:
    try:
        import netron
    except ImportError:
        raise CrispError("Netron is not installed. Install it with `pip install netron`.") from None
    return netron


def _serve(netron: Any, model: Path) -> None:
    """Show the model in the browser until Ctrl-C; its server lives in a thread of this process."""
    host, port = netron.start(str(model))
    log.info("Netron shows %s at http://%s:%d until Ctrl-C.", model, host, port)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        netron.stop((host, port))


def main() -> None:
    """Run the command line and turn every end into its exit code."""
    prepare_streams()
    code: int | str | None = 1
    with heard():
        try:
            code = _run()
        except SystemExit as end:  # a signal, while the end was being told
            code = end.code
    sys.exit(code)


def _run() -> int:
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt) as stop:
        complain(f"Interrupted{str(stop) or '; nothing was written'}.")
        return 128 + signal.SIGINT
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        complain(said.getvalue().rstrip("\n"))
        return error.exit_code
    except CrispError as error:
        complain(f"Error: {HIDDEN.sub('', str(error))}")
        return error.exit_code
    except MemoryError as error:
        log.debug("out of memory:", exc_info=True)
        complain(
            f"Error: The run stops: {reason(error)}. Give it more memory, a smaller batch in the file, or fewer data."
        )
        return 2
    except Exception as error:
        log.debug("the defect:", exc_info=True)
        complain(
            f"Error: {type(error).__name__}: {reason(error)}. This is a defect of crisp-onnx; please report it with "
            "the output of the same command with -v."
        )
        return 1
