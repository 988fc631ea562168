"""Which layers are faster in float32 than in int8 on this machine, each timed in both: sparse ones, and the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from crisp_onnx.model import Model, Size
from crisp_onnx.quantize.model import rehearsed
from crisp_onnx.quantize.whole import first_in_float32
from crisp_onnx.runtime.never_slower import judge_layers
from crisp_onnx.runtime.profit import Verdict

SEAM_MARGIN = 1.25
"""A layer in float32 among those in int8 must be this much faster: it is crossed into and out of real numbers."""

WORTH_SHARE = 0.01
"""Of the time of all sparse layers: what a layer in float32 must save for four times the bytes of file and memory."""


def faster_in_float32(
    model: Model, in_float32: Mapping[str, Verdict], whole: Collection[str], *, size: Size
) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Verdicts on the sparse layers of `model`, emitted in float32, each in the precision in which it is faster, and
    why some stay in float32, by layer name.

    `in_float32`: verdicts on them as they are; where it is empty, nothing is timed in int8 either. `whole`: ordinary
    convolutions that our int8 kernels compute; those that read the model's input may stay in float32 too.
    """
    if not in_float32:
        return {}, {}
    in_int8 = judge_layers(rehearsed(model, size=size).model, size=size).verdicts
    slow = {**first_in_float32(model, whole, size=size), **worth_float32(in_float32, in_int8)}
    return {**in_float32, **{name: found for name, found in in_int8.items() if name not in slow}}, slow


def worth_float32(in_float32: Mapping[str, Verdict], in_int8: Mapping[str, Verdict]) -> dict[str, str]:
    """The layers timed in both that had better stay in float32, and why, by layer name."""
    least_ms = WORTH_SHARE * sum(map(_best_ms, in_int8.values()))
    found = {}
    for name in sorted(in_float32.keys() & in_int8.keys()):
        float32_ms, int8_ms = (_best_ms(verdicts[name]) for verdicts in (in_float32, in_int8))
        if float32_ms * SEAM_MARGIN < int8_ms and int8_ms - float32_ms >= least_ms:
            found[name] = f"timed alone: {float32_ms:.3f} ms in float32, {int8_ms:.3f} ms in int8"
    return found


def _best_ms(verdict: Verdict) -> float:
    return min(verdict.sparse_ms, verdict.times.dense_ms)
