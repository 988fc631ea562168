"""What the compressed model costs beside the dense one: weights, MACs, bytes, time, and the change of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from crisp_onnx.report.schema.part import Count, Duration, Part, Positive, Share

if TYPE_CHECKING:
    from crisp_onnx.runtime.latency import Timing


class Sparsity(Part):
    """Shares of weights that are zero: of the sparse layers, which is what --sparsity asks for; and of all layers."""

    weights: Share
    all_weights: Share


class Macs(Part):
    """Multiply-accumulates of one image, and shares of `dense`.

    `kept`: executed, in hybrid operators by the native kernels, which skip the zeros; ordinary operators execute all of
    theirs. `nonzero`: those with a weight that is not zero, which an engine executes that finds every zero itself.
    `beside`: outside of the weight layers, where nothing is pruned; they are among all three. `beside_kept`: what is
    left of those where channels were removed, null elsewhere.
    """

    dense: Count
    beside: Count = 0
    beside_kept: Count | None = None
    kept: Count
    kept_ratio: Share
    nonzero: Count
    nonzero_ratio: Share

    @model_validator(mode="after")
    def _ratios_of_the_counts(self) -> Macs:
        for name in ("kept", "nonzero"):
            share, count = getattr(self, f"{name}_ratio"), getattr(self, name)
            if self.dense and abs(share - count / self.dense) > 1e-6:
                raise ValueError(f"{name}_ratio is {share}, but {name} / dense is {count / self.dense}")
        return self


class FileSizes(Part):
    """Bytes on disk with external data. `bytes_formula`: the format's formula plus the tensors left dense."""

    bytes_dense: Count
    bytes: Count
    bytes_formula: Count


class Equivalence(Part):
    """Outputs of the written file against those of the masked dense graph, on `images` images.

    `worst_relative` in stock ONNX Runtime, `native_worst_relative` with the native kernels (null: they did not run).
    """

    worst_relative: Duration
    native_worst_relative: Duration | None
    images: Positive


class Quantisation(Part):
    """How the network became int8.

    `method`: how the ranges of tensors were found on `calibration_images`: `range`, `percentile` or `error`, the one
    that lost least. `points_lost`: right answers among the user's classes against the same network in float32, in
    points (negative: won), on `judged` images, and without labels those that changed; `points_lost_expected`: what is
    to be expected by how far the probabilities of these classes move (half the squared distance), and
    `points_lost_spread` its standard error over the images; `error`: RMS of the difference between the scores over that
    of the scores. `layers`: in int8; `layers_float32`: weight layers that are not. `epochs`: of training with rounding
    in the loop. `worst_step`, `share_equal`: what the native kernels give in each int8 layer against its function body,
    worst of all layers: steps of the output, and share of equal values (null: they did not run).
    """

    method: str
    calibration_images: Positive
    points_lost: float
    points_lost_expected: Duration
    points_lost_spread: Duration
    error: Duration
    judged: Positive
    judged_on: str
    layers: Count
    layers_float32: Count
    epochs: Count = 0
    worst_step: Count | None = None
    share_equal: Share | None = None


class Side(Part):
    """Milliseconds of one run of one model: median, 10th and 90th percentile."""

    median_ms: Duration
    p10_ms: Duration
    p90_ms: Duration


class Latency(Part):
    """Both models in turn on one host. `ratio_*`: dense time over compressed time, round by round."""

    dense: Side
    compressed: Side
    ratio_median: Duration
    ratio_p10: Duration
    ratio_p90: Duration
    threads: Positive
    batch: Positive
    runtime: str
    noisy: bool
    note: str = ""


def latency_entry(timing: Timing, *, threads: int, batch: int, runtime: str) -> Latency:
    """The report's entry of a measurement of two files, dense first."""
    dense, compressed = (Side(median_ms=s.median, p10_ms=s.p10, p90_ms=s.p90) for s in timing.sides_ms)
    ratio = timing.ratios[1]
    return Latency(
        dense=dense,
        compressed=compressed,
        ratio_median=ratio.median,
        ratio_p10=ratio.p10,
        ratio_p90=ratio.p90,
        threads=threads,
        batch=batch,
        runtime=runtime,
        noisy=timing.noisy,
        note=timing.note,
    )
