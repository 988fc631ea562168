"""Hold a calibrated target against whole models that its calibration never saw: end to end and layer by layer.

    python -m benchmarks.calibration_check TARGET.yaml [--threads 1] [--model NAME]... [--budget-s 1] [--times FILE]

Published networks: ours (`topologies.py`), the light ones of the onnx package, and two of the folder of real models;
each dense and sparse at random in hybrid operators, in float32 and int8. Run it on a quiet machine: the measured side
is only as good as that. `--times` keeps what was measured, and where the file is there already judges it again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from benchmarks.network import Sparsity
from benchmarks.real_data import data_folder
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.api.simplify import simplify
from crisp_onnx.cost.calibrate.forms import FORMS
from crisp_onnx.cost.calibrate.machine import read_bandwidth_bytes_s, this_machine
from crisp_onnx.cost.calibrate.profile import Profile, profile_model
from crisp_onnx.cost.calibrate.samples import Measured, pair
from crisp_onnx.cost.calibrate.steady import is_far, steady
from crisp_onnx.cost.calibrate.times import Times, read_times, times_text
from crisp_onnx.cost.estimator import cost_operators
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import Target, load_target
from crisp_onnx.lowering.timing import timing_kind
from crisp_onnx.model import Model, load
from crisp_onnx.runtime.library import core_distance_ns, load_library

SEED = 4
WORST = 3
RESULTS = Path(__file__).parent / "results"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_NAMES = ("squeezenet", "inception_v1", "inception_v2", "densenet121", "shufflenet", "bvlc_alexnet", "zfnet512")
REAL_NAMES = ("mobilenetv1_imagenet", "resnet18w32_cifar100")
DENSE = Sparsity(Pattern(2, 4, 16, 8), 1.0)


def _built(name: str) -> Model:
    return Model(TOPOLOGIES[name](DENSE, hybrid=False), Path(f"{name}.onnx"), "")


def _light(name: str) -> Model:
    """Its weights are all one number in the file, with which values overflow, and functions of those take longer."""
    return _filled(simplify(load(LIGHT / f"light_{name}.onnx")).model)


def _filled(model: Model) -> Model:
    """With He's random weights."""
    proto, rng = onnx.ModelProto(), np.random.default_rng(SEED)
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            spread = np.float32(np.sqrt(2 / np.prod(tensor.dims[1:])))
            values = rng.standard_normal(tuple(tensor.dims), dtype=np.float32) * spread
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return replace(model, proto=proto)


def _real(name: str) -> Model:
    return load(data_folder() / "models" / f"{name}.onnx")


MODELS: Mapping[str, Callable[[], Model]] = {
    name: partial(source, name)
    for source, names in ((_built, tuple(TOPOLOGIES)), (_light, LIGHT_NAMES), (_real, REAL_NAMES))
    for name in names
}


@dataclass(frozen=True)
class Row:
    """ms predicted and measured (the whole run, and the sum of its operators' times); Spearman over layers.

    `layers`: name, kind, and us predicted and measured of each. `cores_apart_ns`: of several threads, while measured;
    `far`: further than where the target was calibrated.
    """

    model: str
    form: str
    threads: int
    predicted_ms: float
    measured_ms: float
    operators_ms: float
    spearman: float
    layers: tuple[tuple[str, str, float, float], ...]
    cores_apart_ns: float | None
    far: bool

    @property
    def worst(self) -> tuple[str, ...]:
        """The layers that miss by most, in words."""
        found = sorted(self.layers, key=lambda layer: -abs(layer[2] - layer[3]))[:WORST]
        return tuple(f"{name}: {guess:.0f} for {truth:.0f} us" for name, _, guess, truth in found)

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted_ms / self.measured_ms - 1)

    @property
    def operators_error_percent(self) -> float:
        return 100 * (self.predicted_ms / self.operators_ms - 1)


def check(
    measured: Measured, form: str, target: Target, threads: int, *, cores_apart_ns: float | None, near_ns: float | None
) -> Row:
    """Predict the operators of one measured model."""
    predicted = cost_operators("as_is", tuple(sample.op for sample in measured.samples), target)
    guess = np.array([layer.latency_ms * 1e3 for layer in predicted.layers])
    truth = np.array([sample.time_us for sample in measured.samples])
    granule = target.whole(target.descriptor.timing.granule) if target.descriptor.timing else 1
    layers = tuple(
        (sample.op.name, timing_kind(sample.op, granule), round(float(us), 2), round(sample.time_us, 2))
        for sample, us in zip(measured.samples, guess, strict=True)
    )
    ran = truth > 0
    return Row(
        measured.network,
        form,
        threads,
        predicted.latency_ms,
        measured.whole_ms,
        float(truth.sum()) / 1e3,
        float(np.corrcoef(_ranks(guess[ran]), _ranks(truth[ran]))[0, 1]),
        layers,
        cores_apart_ns,
        is_far(cores_apart_ns, near_ns),
    )


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks, equal values sharing the mean of theirs: layers of one shape are predicted to take the same time."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def markdown(rows: list[Row], target: Target) -> str:
    lines = [
        f"Predicted by {target.name}, whose calibration saw none of these models, for {rows[0].threads} threads.",
        "",
        "| model | form | predicted ms | measured ms | error | operators ms | error | Spearman | cores | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.form} | {r.predicted_ms:.2f} | {r.measured_ms:.2f} | {r.error_percent:+.1f} % "
        f"| {r.operators_ms:.2f} | {r.operators_error_percent:+.1f} % | {r.spearman:.3f} | {_cores(r)} "
        f"| {'; '.join(r.worst)} |"
        for r in rows
    ]
    lines += [
        "",
        "| form | models | whole runs, mean error | worst | sums of operators, mean error | worst | least Spearman |",
        "|---|---|---|---|---|---|---|",
    ]
    near = [r for r in rows if not r.far]
    forms = (*dict.fromkeys(r.form for r in near), "all")
    lines += [_summary(form, [r for r in near if form in (r.form, "all")]) for form in forms if near]
    if len(near) < len(rows):
        lines += [
            _summary("all, cores far apart", [r for r in rows if r.far]),
            "",
            "Cores: ns of a cache line's way between them and back while a model ran. Far: over twice that of the "
            "calibration, in three tries; the other lines of the summary are without such rows.",
        ]
    return "\n".join(lines) + "\n"


def _cores(row: Row) -> str:
    if row.cores_apart_ns is None:
        return ""
    return f"{row.cores_apart_ns:.0f} ns{', far' if row.far else ''}"


def _summary(name: str, own: Sequence[Row]) -> str:
    whole, operators = [abs(r.error_percent) for r in own], [abs(r.operators_error_percent) for r in own]
    return (
        f"| {name} | {len(own)} | {np.mean(whole):.1f} % | {max(whole):.1f} % | {np.mean(operators):.1f} % | "
        f"{max(operators):.1f} % | {min(r.spearman for r in own):.3f} |"
    )


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True)
@click.option("--model", "models", multiple=True, default=tuple(MODELS), type=click.Choice(list(MODELS)))
@click.option("--form", "forms", multiple=True, default=tuple(FORMS), type=click.Choice(list(FORMS)))
@click.option("--budget-s", default=1.0, show_default=True, help="Seconds of measuring a model and form.")
@click.option("--times", type=click.Path(path_type=Path), help="JSON file that keeps the measured times.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Folder.")
def main(
    target: Path,
    threads: int,
    models: tuple[str, ...],
    forms: tuple[str, ...],
    budget_s: float,
    times: Path | None,
    output: Path,
) -> None:
    chosen, base, machine, kernels = load_target(target), load_target("x86_avx2"), this_machine(), load_library().path
    kept = read_times(times).profiles if times is not None and times.exists() else {}
    calibration = chosen.descriptor.calibration
    near_ns = (calibration.cores_apart_ns if calibration else None) or core_distance_ns(threads)
    profiles: dict[str, Profile] = {}
    rows = []
    for name in models:
        source = simplify(MODELS[name]()).model
        for form in forms:
            model, key = FORMS[form](source, SEED), f"{form} {name}"
            if model is None:
                continue
            timed = partial(profile_model, model, threads=threads, kernels=kernels, budget_s=budget_s)
            found = kept.get(key) or steady(timed, threads, near_ns)
            profiles[key] = found
            measured = pair(model, name, base, found, granule=machine.granule)
            rows.append(check(measured, form, chosen, threads, cores_apart_ns=found.cores_apart_ns, near_ns=near_ns))
            click.echo(f"{name}, {form}: {rows[-1].error_percent:+.1f} %, Spearman {rows[-1].spearman:.3f}", err=True)
    output.mkdir(parents=True, exist_ok=True)
    if times is not None and not kept:
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        taken = Times(machine, threads, str(ort.__version__), today, read_bandwidth_bytes_s(), profiles)
        times.write_text(times_text(taken))
    stem = output / f"calibration_check_{threads}"
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    stem.with_suffix(".json").write_text(f"[\n{lines}\n]\n")
    stem.with_suffix(".md").write_text(markdown(rows, chosen))
    click.echo(markdown(rows, chosen), nl=False)


if __name__ == "__main__":
    main()
