"""The commands about hardware: targets, targets show, targets calibrate, lower, estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crisp_onnx.cli_options import FILE, PREPROCESS, SIZE, common, talk, tell

TARGET = click.option("--target", required=True, help="Name of a built-in target, or the path of a YAML file.")
DATA = click.option("--data", type=FILE, help="Images: measure how many inputs of each layer are zero, and use it.")
BATCH = click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images at a time.")
DTYPE = click.option("--dtype", type=click.Choice(["int8", "fp16", "fp32"]), help="Default: the target's first type.")


@click.group(invoke_without_command=True)
@common
@click.pass_context
def targets(context: click.Context, as_json: bool, verbosity: int) -> None:
    """List the hardware targets; `targets show NAME` explains one."""
    if context.invoked_subcommand is None:
        _tell_all(as_json, verbosity)


@targets.command("list")
@common
def list_all(as_json: bool, verbosity: int) -> None:
    """List the hardware targets, as without a command."""
    _tell_all(as_json, verbosity)


def _tell_all(as_json: bool, verbosity: int) -> None:
    talk(verbosity)
    from crisp_onnx.api.hardware import targets as run
    from crisp_onnx.report.target_views import targets_view

    tell(run(), targets_view, as_json)


@targets.command()
@click.argument("name")
@common
def show(name: str, as_json: bool, verbosity: int) -> None:
    """Explain target NAME (or a YAML file) in words."""
    talk(verbosity)
    from crisp_onnx.api.hardware import show_target
    from crisp_onnx.report.target_views import target_view

    tell(show_target(name), target_view, as_json)


@targets.command()
@click.option("-o", "--output", type=FILE, required=True, help="Target file to write, for example mine.yaml.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of ONNX Runtime.")
@click.option("--networks", type=click.IntRange(20), default=120, show_default=True, help="Networks to measure.")
@click.option("--kernels", type=FILE, help="Library of hybrid operators.  [default: the installed one]")
@click.option(
    "--times", type=FILE, help="JSON file that keeps the times. Where it is there, it is fitted, not measured."
)
@click.option(
    "--from-profile",
    "profiles",
    type=FILE,
    multiple=True,
    help="Measure nothing; fit --target to a profile of TensorRT (give both JSON files), Vela, OpenVINO, ONNX Runtime.",
)
@click.option("--target", "base", help="With --from-profile: target, or YAML file, whose rates are fitted.")
@click.option("--model", type=FILE, help="With --from-profile: the ONNX file measured, where the tool tells no shapes.")
@common
def calibrate(
    output: Path,
    threads: int,
    networks: int,
    kernels: Path | None,
    times: Path | None,
    profiles: tuple[Path, ...],
    base: str | None,
    model: Path | None,
    as_json: bool,
    verbosity: int,
) -> None:
    """Measure this machine (some minutes) and write a target of its own, or fit one to a vendor's profile."""
    talk(verbosity)
    from crisp_onnx.api.hardware import calibrate as run
    from crisp_onnx.api.hardware import calibrate_from_profile
    from crisp_onnx.report.target_views import calibration_view, fitted_view

    if profiles and base is None:
        raise click.UsageError("--from-profile needs --target NAME: the target whose rates are to be fitted.")
    if profiles and times is not None:
        raise click.UsageError("--times keeps what is measured here, and --from-profile measures nothing. Give one.")
    if not profiles and (base or model):
        raise click.UsageError("--target and --model belong to --from-profile. Leave them out to measure this machine.")
    if profiles:
        tell(calibrate_from_profile(output, profiles, base or "", model=model), fitted_view, as_json)
        return

    found = run(output, threads=threads, networks=networks, kernels=kernels, times=times)
    tell(found, calibration_view, as_json)


@click.command()
@click.argument("model", type=FILE)
@TARGET
@BATCH
@SIZE
@DTYPE
@DATA
@PREPROCESS
@click.option("-o", "--output", type=FILE, help="File to write.  [default: MODEL.<target>.json]")
@common
def lower(model: Path, target: str, output: Path | None, as_json: bool, verbosity: int, **options: Any) -> None:
    """Write MODEL as a target sees it: tiles, bytes, and which patterns count there."""
    talk(verbosity)
    from crisp_onnx.api.hardware import lower as run
    from crisp_onnx.report.target_views import lowered_view

    lowered, path = run(model, target, output=output, **options)
    tell(lowered, lambda found: lowered_view(found, path), as_json)


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--target",
    "targets_given",
    required=True,
    multiple=True,
    help="Name of a built-in target, or the path of a YAML file. Several give a table; all, skip, store, nothing, cpu, "
    "gpu, npu and accelerator are those that `crisp-onnx targets` lists so.",
)
@click.option("--against", type=FILE, help="A second model, estimated on the same target.")
@click.option("--html", "page", type=FILE, help="HTML page: first sentences, roofline, bars, both models side by side.")
@click.option("--plot", "plots", type=FILE, multiple=True, help="PNG or SVG: first the roofline, then bars per layer.")
@BATCH
@SIZE
@DTYPE
@DATA
@PREPROCESS
@common
def estimate(
    model: Path,
    targets_given: tuple[str, ...],
    against: Path | None,
    plots: tuple[Path, ...],
    as_json: bool,
    verbosity: int,
    **options: Any,
) -> None:
    """Estimate latency, energy and bound of MODEL on a target, beside the same model dense; or compare targets."""
    talk(verbosity)
    from crisp_onnx.api.hardware import estimate as run
    from crisp_onnx.api.target_comparison import compare_targets
    from crisp_onnx.lowering.target_groups import load_targets
    from crisp_onnx.report.target_views import comparison_view, estimate_view

    chosen = load_targets(targets_given)
    if len(chosen) == 1:
        tell(run(model, chosen[0].path, against=against, plots=plots, **options), estimate_view, as_json)
        return
    if plots:
        raise click.UsageError("--plot draws one target. Give one --target, or --html for a page of several.")
    tell(compare_targets(model, targets_given, against=against, **options), comparison_view, as_json)


COMMANDS = (targets, lower, estimate)
