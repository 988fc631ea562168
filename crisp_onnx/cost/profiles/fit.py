"""Fit a target's rates to a profile: share of its peak by kind of layer, of its memory, and overhead of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
BANDWIDTHS = np.linspace(0.3, 1.0, 15)  # shares of the stated one
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """`efficiency`: share of the peak by kind; `bandwidth`: share of the memory's; `overhead_us`: of each layer."""

    efficiency: Mapping[OpKind, float]
    bandwidth: float
    overhead_us: float


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
    """us of the array at its peak, of memory at its full bandwidth, and as measured."""

    kind: OpKind
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
    samples = [_sample(layer, target) for layer in profile.layers]
    if len(samples) < LEAST_LAYERS:
        raise CrispError(
            f"The profile has {len(samples)} layers with times and shapes, which is too few to fit rates. Measure a "
            "larger model, or give several networks."
        )
    judged = samples[::HELD_OUT]
    fitted = [sample for at, sample in enumerate(samples) if at % HELD_OUT]
    rates = _search(fitted)
    errors = [100 * abs(_predict(sample, rates) / sample.time_us - 1) for sample in judged]
    median = float(np.median(errors))
    if median > MOST_ERROR_PERCENT:
        raise CrispError(
            f"No rates of {target.name} explain the profile: on layers held out they err by {median:.0f} % in the "
            "median. Check that --target is the hardware that was measured, and its clock and peak."
        )
    rows: dict[OpKind, int] = {}
    for sample in fitted:
        rows[sample.kind] = rows.get(sample.kind, 0) + 1
    return FittedRates(
        tool=profile.tool,
        rates=rates,
        layers_fitted=len(fitted),
        layers_held_out=len(judged),
        median_error_percent=median,
        p90_error_percent=float(np.percentile(errors, 90)),
        left_out=profile.left_out,
        rows=rows,
    )


def _sample(layer: TimedLayer, target: Target) -> _Sample:
    dtype = choose_dtype(target, layer.dtype if layer.dtype in target.descriptor.dtypes else None)
    clock = float(target.clock_hz) / 1e6
    kind = FALLBACK.get(layer.kind, layer.kind)
    if layer.matrix is None:
        array = layer.macs / float(target.peak_macs(dtype))
        memory_us = layer.memory_us or dram_cycles(layer.moved_bytes, 0, target) / clock
        return _Sample(kind, array / clock, memory_us, layer.time_us)
    pattern = LayerSparsity(2, 4) if layer.sparse else LayerSparsity()
    op = lower_layer(Layer(layer.name, "Conv", layer.kind, layer.matrix, pattern), target, dtype)
    cycles = op.tiling.array_cycles if op.tiling else 0
    return _Sample(kind, cycles / clock, dram_cycles(*op.dram_bytes, target) / clock, layer.time_us)


def _predict(sample: _Sample, rates: Rates) -> float:
    share = rates.efficiency.get(sample.kind, max(rates.efficiency.values(), default=1.0))
    return rates.overhead_us + max(sample.array_us / share, sample.memory_us / rates.bandwidth)


def _search(samples: Sequence[_Sample]) -> Rates:
    """The best of a grid of overheads and bandwidths; given both, each kind's share is that of one of its layers."""
    kinds = sorted({sample.kind for sample in samples if sample.array_us > 0})
    times = np.array([sample.time_us for sample in samples])
    array = np.array([sample.array_us for sample in samples])
    memory = np.array([sample.memory_us for sample in samples])
    members = {kind: np.array([sample.kind == kind for sample in samples]) for kind in kinds}
    best, found = np.inf, Rates({}, 1.0, 0.0)
    for overhead in OVERHEADS * times.min():
        for bandwidth in BANDWIDTHS if memory.any() else (1.0,):
            moved = memory / bandwidth
            predicted = overhead + moved
            shares: dict[OpKind, float] = {}
            for kind, mine in members.items():
                shares[kind], predicted[mine] = _share(array[mine], moved[mine], times[mine], overhead)
            loss = _loss(predicted, times)
            if loss < best:
                best, found = loss, Rates(shares, float(bandwidth), float(overhead))
    return found


def _share(array: Floats, moved: Floats, times: Floats, overhead: float) -> tuple[float, Floats]:
    """(the share of the peak that fits layers of one kind best, their times with it)."""
    tried = np.unique(np.clip(array / (times - overhead), 1e-6, 1.0))
    predicted = overhead + np.maximum(array / tried[:, None], moved)
    at = int(np.argmin([_loss(row, times) for row in predicted]))
    return float(tried[at]), predicted[at]


def _loss(predicted: Floats, times: Floats) -> float:
    errors = np.abs(np.log(predicted / times))
    return float(np.where(errors < HUBER, errors**2 / (2 * HUBER), errors - HUBER / 2).sum())
