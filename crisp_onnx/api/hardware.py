"""Hardware targets: list them, explain one, measure this machine, lower a model to one, estimate a model on one."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

from crisp_onnx.api.files_read import files_read
from crisp_onnx.api.one_target import Asked, estimate_on, lower_on, read_source
from crisp_onnx.cost import Estimate
from crisp_onnx.cost.calibrate.run import NETWORKS, measure
from crisp_onnx.cost.calibrate.run import calibrate as run_calibration
from crisp_onnx.cost.calibrate.times import read_times, times_text
from crisp_onnx.cost.calibrate.write import Calibrated, target_text
from crisp_onnx.cost.profiles.fit import fit_profile
from crisp_onnx.cost.profiles.read import read_profile
from crisp_onnx.cost.profiles.write import fitted_text
from crisp_onnx.lowering import Lowered, Target, load_target, lowered_path, target_names, write_lowered
from crisp_onnx.lowering.dense_form import computes_on_bytes, dense_form
from crisp_onnx.lowering.describe import describe_target, summarize_target
from crisp_onnx.lowering.read_layers import read_layers
from crisp_onnx.lowering.written_out import written_out
from crisp_onnx.model import (
    Model,
    Size,
    load,
    save,
    tensor_shapes,
    weights_files,
    write_files,
)
from crisp_onnx.model.write import HASH_DIGITS, weights_path
from crisp_onnx.reading import border, shown
from crisp_onnx.report.estimate_page import estimate_page
from crisp_onnx.report.findings import Estimation, FittedTarget, TargetList, TargetText
from crisp_onnx.report.layer_plot import FORMATS
from crisp_onnx.report.roofline import write_layer_bars, write_roofline
from crisp_onnx.runtime.library import load_library, require_library
from crisp_onnx.writing import keep_inputs, require_name, require_place

FIND_SPARSITY = ("gpu", "npu")
OURS_ON_BYTES = (
    "Its int8 operators are ours, and {}'s own tools do not know them: `crisp-onnx compress --precision int8 --emit "
    "dense` writes QuantizeLinear and DequantizeLinear around ordinary ones for those"
)
ANOTHER = "Choose another name for the result."


def targets() -> TargetList:
    """The built-in hardware targets.

    Raises:
        CrispError: a built-in file is damaged.
    """
    return TargetList(tuple(summarize_target(load_target(name)) for name in target_names()))


def show_target(name: str | Path) -> TargetText:
    """`name`, or a file's path, explained in words.

    Raises:
        CrispError: unknown name, or a file that is no sound descriptor.
    """
    target = load_target(name)
    return TargetText(target.name, str(target.path), describe_target(target))


def calibrate(
    output: Path,
    *,
    threads: int = 1,
    networks: int = NETWORKS,
    kernels: Path | None = None,
    times: Path | None = None,
) -> Calibrated:
    """Measure this machine for some minutes and write `output`, a target whose provenance says measured.

    `kernels`: the library with the hybrid operators, by default the installed one; where there is none, only dense
    layers are measured. `times`: a JSON file that keeps every time; where it is there already, nothing is measured and
    the target is fitted to it, whatever `threads`, `networks` and `kernels` say.

    Raises:
        CrispError: a file cannot be written, the target's name is no name of one, or the times cannot be read.
    """
    require_name(output, (".yaml", ".yml"), "a target")
    if kernels is not None:
        require_library(kernels)
    kept = read_times(times) if times is not None and times.exists() else None
    keep_inputs([output], [kernels, times], ANOTHER)
    for path in (output, *([times] if times is not None and kept is None else [])):
        require_place(path)
    if kept is None:
        kept = measure(threads=threads, networks=networks, kernels=kernels or load_library().path)
        if times is not None:
            write_files({times: times_text(kept).encode()})
    found = run_calibration(output.stem, kept)
    write_files({output: target_text(found).encode()})
    load_target(output)
    return found


def calibrate_from_profile(
    output: Path, profiles: Sequence[Path], base: str | Path, *, model: Path | None = None
) -> FittedTarget:
    """Fit the rates of target `base` to what a vendor's tool measured, and write `output`.

    `profiles`: one file of Vela, OpenVINO or ONNX Runtime, or the two of TensorRT. `model`: the ONNX file that was
    measured, for tools that tell no shapes.

    Raises:
        CrispError: a profile that cannot be read, too few layers, or `output` is no place for a target.
    """
    require_name(output, (".yaml", ".yml"), "a target")
    chosen = load_target(base)
    keep_inputs([output], [*profiles, model, chosen.path], ANOTHER)
    require_place(output)
    layers = read_layers(source := written_out(load(model)), tensor_shapes(source))[0] if model is not None else []
    profile = read_profile(profiles, clock_hz=float(chosen.clock_hz), layers=layers)
    names = ", ".join(shown(str(path)) for path in profiles)
    with border(f"No rates can be fitted to {names}", "Give the profile of a run that was measured."):
        found = fit_profile(profile, chosen)
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    files = ", ".join(path.name for path in profiles)
    text = fitted_text(output.stem, chosen, found, files=files, date=date)
    write_files({output: text.encode()})
    load_target(output)
    return FittedTarget(output, chosen.name, found)


def lower(
    model: str | Path,
    target: str | Path,
    *,
    output: Path | None = None,
    batch: int = 1,
    size: int | Size | None = None,
    dtype: str | None = None,
    data: Path | None = None,
    preprocess: str | None = None,
) -> tuple[Lowered, Path]:
    """Lower the file `model` to `target` and write `model.<target>.json` (or `output`).

    For targets whose tools find sparsity themselves (TensorRT's 2:4, weight compression of NPU compilers) a model in
    hybrid operators is written once more beside it as .onnx, its weights in ordinary operators with zeros in place;
    not one in int8, of which a note says how to get such a file.

    Raises:
        CrispError: no such model or target, or the file cannot be written.
    """
    chosen = load_target(target)
    source = load(model)
    path = output or lowered_path(Path(model), chosen)
    finds, on_bytes = chosen.descriptor.kind in FIND_SPARSITY, computes_on_bytes(source)
    dense = dense_form(source) if finds and not on_bytes else None
    beside = path.with_suffix(".onnx")
    of_dense = (beside, weights_path(beside, "0" * HASH_DIGITS), *weights_files(beside))
    outputs = (path,) if dense is None else tuple(dict.fromkeys((path, *of_dense)))
    read = (Path(model), *source.data_files, chosen.path, *files_read(outputs, data, preprocess))
    keep_inputs(outputs, read, ANOTHER)
    require_name(path, (".json",), "what the model becomes")
    lowered = lower_on(source, chosen, Asked(batch, size, dtype, data, preprocess))
    if dense is not None:
        save(dense, beside)
        note = f"{beside.name} holds the same weights in ordinary operators, for {chosen.name}'s own tools"
        lowered = lowered.model_copy(update={"notes": (*lowered.notes, note)})
    elif finds and on_bytes:
        lowered = lowered.model_copy(update={"notes": (*lowered.notes, OURS_ON_BYTES.format(chosen.name))})
    write_lowered(lowered, path)
    return lowered, path


def estimate(
    model: str | Path,
    target: str | Path,
    *,
    against: str | Path | None = None,
    batch: int = 1,
    size: int | Size | None = None,
    dtype: str | None = None,
    plots: Sequence[Path] = (),
    data: Path | None = None,
    preprocess: str | None = None,
    page: Path | None = None,
) -> Estimation:
    """Latency, energy and bound of every layer of `model` (ONNX, or a lowered .json) on `target`.

    `size`: in pixels, of the sides that the input leaves open; 224 where it is not said.
    `against`: a second model on the same target. `plots`: .png or .svg files; the first is the roofline, the second the
    stacked bar per layer. `data`: images on which the share of nonzeros among each layer's inputs is measured, for
    targets that make use of it; without any, all count as nonzero. `page`: an HTML file with both models side by side.

    Raises:
        CrispError: a file cannot be read, or was lowered for another target.
    """
    chosen = load_target(target)
    plots = tuple(plots)
    outputs = (*plots, *([page] if page is not None else []))
    paths = [Path(one) for one in (model, against) if one is not None]
    read = (*paths, chosen.path, *files_read(outputs, data, preprocess))
    keep_inputs(outputs, read, ANOTHER)
    for path in plots:
        require_name(path, FORMATS, "a plot")
    if page is not None:
        require_name(page, (".html", ".htm"), "a page")
    for path in outputs:
        require_place(path)
    sources = [read_source(path) for path in paths]
    keep_inputs(outputs, [file for one in sources if isinstance(one, Model) for file in one.data_files], ANOTHER)
    found, *others = (
        estimate_on(path, one, chosen, Asked(batch, size, dtype, data, preprocess))
        for path, one in zip(paths, sources, strict=True)
    )
    other = others[0] if others else None
    drawing: tuple[Callable[[Estimate, Target, Path], None], ...] = (write_roofline, write_layer_bars)
    for path, write in zip(plots, drawing, strict=False):
        write(found, chosen, path)
    ratio = other.as_is.latency_ms / found.as_is.latency_ms if other else None
    result = Estimation(found, other, ratio, tuple(plots))
    if page is not None:
        write_files({page: estimate_page(result, chosen).encode()})
    return result
