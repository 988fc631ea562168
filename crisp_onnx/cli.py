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
from crisp_onnx.cli_compress import compress
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
    common,
    talk,
    tell,
)
from crisp_onnx.cli_saliency import saliency
from crisp_onnx.cli_signals import heard
from crisp_onnx.cli_streams import complain, prepare_streams
from crisp_onnx.cli_targets import COMMANDS
from crisp_onnx.errors import CrispError
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
@click.argument("model", type=FILE)
@click.option("--pattern", default="2:4", show_default=True, help="N:M that layers are checked against.")
@click.option("--block", type=int, default=16, show_default=True, help="Side of a block.")
@click.option("--vector-rows", type=int, default=8, show_default=True, help="Rows that share an N:M choice.")
@click.option("--groups", is_flag=True, help="Every group of channels: its operators, its savings, what binds it.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    help="Whether it can be int8.",
)
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
    """Say what can be gained on MODEL and what not, layer by layer.

    Exit with 2 where compress would refuse it; with --groups, where compress --method channels would.
    """
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
    refusal = found.refusal_of_channels if groups else found.refusal_told
    if refusal:
        raise CrispError(refusal)


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


for _command in (blocks, compress, explore, saliency, *COMMANDS):
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
        told = str(stop) or str(stop.__cause__ or "")  # click puts its own in the place of a KeyboardInterrupt
        complain(f"Interrupted{told or '; nothing was written'}.")
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
