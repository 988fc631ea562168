"""Fit a target's rates to a profile: share of its peak by kind of layer, of its memory, and overhead of a layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.cycles import FALLBACK, dram_cycles
from crisp_onnx.lowering.layer_sparsity import LayerSparsity
from crisp_onnx.lowering.layers import Layer, choose_dtype, lower_layer
from crisp_onnx.lowering.schema import OpKind
from crisp_onnx.lowering.target import Target

HELD_OUT = 5  # every fifth layer judges the fit
LEAST_LAYERS = 5
MOST_ERROR_PERCENT = 100
HUBER = 0.1
OVERHEADS = np.concatenate([np.geomspace(0.01, 0.2, 12), np.linspace(0.22, 0.98, 39)])  # of the quickest layer
BANDWIDTHS = np.linspace(1.0, 0.3, 71)  # shares of the stated one; the first of those that fit alike is taken
COARSE = 5  # first every fifth of them is tried
MOST_SHARES = 64
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """`efficiency`: share of the peak by kind; `bandwidth`: share of the memory's; `overhead_us`: of each layer.

    `None` where the profile tells nothing of it.
    """

    efficiency: Mapping[OpKind, float]
    bandwidth: float | None
    overhead_us: float | None


@dataclass(frozen=True)
class FittedRates:
    """Rates with the rows they came from, and the absolute relative errors, in percent, on layers held out."""

    tool: str
    rates: Rates
    layers_fitted: int
    layers_held_out: int
    median_error_percent: float
    p90_error_percent: float
    left_out: int
    rows: Mapping[OpKind, int]


@dataclass(frozen=True)
class _Sample:
    """us of the array at its peak, of memory at its full bandwidth, and as measured.

    `kind`: whose share of the peak it tells; `None` where both times are the tool's own.
    """

    kind: OpKind | None
    array_us: float
    memory_us: float
    time_us: float


def fit_profile(profile: Profile, target: Target) -> FittedRates:
    """Least relative errors, with Huber's loss, on four fifths of the layers.

    Raises:
        CrispError: too few layers with shapes, a target whose times were measured, or a profile of other hardware.
    """
    if target.descriptor.timing is not None:
        raise CrispError(
            f"The times of {target.name} were measured, so that rates would change nothing. Give --target the name of "
            "a built-in target, or measure anew with `crisp-onnx targets calibrate`."
        )
    known = target.descriptor.dtypes
    foreign = [layer.dtype for layer in profile.layers if _is_foreign(layer, known)]
    samples = [_sample(layer, target) for layer in profile.layers if not _is_foreign(layer, known)]
    if len(samples) < LEAST_LAYERS and foreign:
        raise CrispError(
            f"{len(foreign)} layers of the profile compute in {foreign[0]}, and {target.name} in "
            f"{' and '.join(known)} alone. Measure the model in a type of the target's."
        )
    if len(samples) < LEAST_LAYERS:
        raise CrispError(
            f"The profile has {len(samples)} layers with times and shapes, which is too few to fit rates. Measure a "
            "larger model, give several networks, or give with --model the file that was measured."
        )
    if profile.design not in (None, target.descriptor.array.design):
        raise CrispError(
            f"{profile.tool} is no tool for {target.name}. Give --target one of the hardware that it compiles for, "
            "such as arm_ethos_u55, arm_ethos_u65 or arm_ethos_u85."
        )
    judged = samples[::HELD_OUT]
    fitted = [sample for at, sample in enumerate(samples) if at % HELD_OUT]
    rates = _search(fitted, with_overhead=not profile.of_networks)
    errors = [100 * abs(_predict(sample, rates) / sample.time_us - 1) for sample in judged]
    median = float(np.median(errors))
    if median > MOST_ERROR_PERCENT:
        raise CrispError(
            f"No rates of {target.name} explain the profile: on layers held out they err by {median:.0f} % in the "
            "median. Check that --target is the hardware that was measured, and its clock and peak."
        )
    rows: dict[OpKind, int] = {}
    for kind in (sample.kind for sample in fitted if sample.kind is not None):
        rows[kind] = rows.get(kind, 0) + 1
    return FittedRates(
        tool=profile.tool,
        rates=rates,
        layers_fitted=len(fitted),
        layers_held_out=len(judged),
        median_error_percent=median,
        p90_error_percent=float(np.percentile(errors, 90)),
        left_out=profile.left_out + len(foreign),
        rows=rows,
    )


def _is_foreign(layer: TimedLayer, known: Collection[str]) -> bool:
    """Whether it computes in a type that the target does not have: its time tells nothing of the target's rates."""
    return layer.matrix is not None and layer.dtype != "" and layer.dtype not in known


def _sample(layer: TimedLayer, target: Target) -> _Sample:
    dtype = choose_dtype(target, layer.dtype if layer.dtype in target.descriptor.dtypes else None)
    clock = float(target.clock_hz) / 1e6
    kind = FALLBACK.get(layer.kind, layer.kind)
    if layer.matrix is None:
        if layer.array_us or layer.memory_us:
            return _Sample(None, layer.array_us, layer.memory_us, layer.time_us)
        return _Sample(kind, 0.0, dram_cycles(layer.moved_bytes, 0, target) / clock, layer.time_us)
    pattern = LayerSparsity(2, 4) if layer.sparse else LayerSparsity()
    op = lower_layer(Layer(layer.name, "Conv", layer.kind, layer.matrix, pattern), target, dtype)
    cycles = op.tiling.array_cycles if op.tiling else 0
    return _Sample(kind, cycles / clock, dram_cycles(*op.dram_bytes, target) / clock, layer.time_us)


def _predict(sample: _Sample, rates: Rates) -> float:
    overhead = rates.overhead_us or 0.0
    if sample.kind is None:
        return overhead + max(sample.array_us, sample.memory_us)
    share = rates.efficiency.get(sample.kind, max(rates.efficiency.values(), default=1.0))
    return overhead + max(sample.array_us / share, sample.memory_us / (rates.bandwidth or 1.0))


def _search(samples: Sequence[_Sample], *, with_overhead: bool) -> Rates:
    """The best of a grid of overheads and bandwidths; given both, each kind's share is that of one of its layers."""
    own = np.array([sample.kind is None for sample in samples])
    kinds = sorted({sample.kind for sample in samples if sample.kind is not None and sample.array_us > 0})
    times = np.array([sample.time_us for sample in samples])
    array = np.array([sample.array_us for sample in samples])
    memory = np.array([sample.memory_us for sample in samples])
    members = {kind: np.array([sample.kind == kind for sample in samples]) for kind in kinds}
    stated = np.maximum(array, memory)
    overheads = OVERHEADS * times.min() if with_overhead else np.zeros(1)

    def best(bandwidths: Floats) -> tuple[float, float, float, Mapping[OpKind, float]]:
        """(loss, bandwidth, overhead, shares)."""
        found: tuple[float, float, float, Mapping[OpKind, float]] = (np.inf, 1.0, 0.0, {})
        for overhead in overheads:
            for bandwidth in bandwidths:
                moved = memory / bandwidth
                predicted = overhead + np.where(own, stated, moved)
                shares: dict[OpKind, float] = {}
                for kind, mine in members.items():
                    shares[kind], predicted[mine] = _share(array[mine], moved[mine], times[mine], overhead)
                if (loss := _loss(predicted, times)) < found[0]:
                    found = (loss, float(bandwidth), float(overhead), shares)
        return found

    tells = bool(memory[~own].any())
    near = best(BANDWIDTHS[::COARSE] if tells else np.ones(1))
    if tells:
        near = min(near, best(BANDWIDTHS[np.abs(BANDWIDTHS - near[1]) < 0.01 * COARSE]), key=lambda found: found[0])
    _, bandwidth, overhead, shares = near
    return Rates(shares, bandwidth if tells else None, overhead if with_overhead else None)


def _share(array: Floats, moved: Floats, times: Floats, overhead: float) -> tuple[float, Floats]:
    """(the share of the peak that fits layers of one kind best, their times with it)."""
    tried = np.unique(np.clip(array / (times - overhead), 1e-6, 1.0))
    if len(tried) > MOST_SHARES:  # of thousands of layers
        tried = np.quantile(tried, np.linspace(0, 1, MOST_SHARES))
    predicted = overhead + np.maximum(array / tried[:, None], moved)
    at = int(np.argmin([_loss(row, times) for row in predicted]))
    return float(tried[at]), predicted[at]


def _loss(predicted: Floats, times: Floats) -> float:
    errors = np.abs(np.log(predicted / times))
    return float(np.where(errors < HUBER, errors**2 / (2 * HUBER), errors - HUBER / 2).sum())
