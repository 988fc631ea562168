"""Cycles of an Arm Ethos-U NPU: micro-blocks of 2 x 2 positions and 8 channels, 4 cycles each."""

from __future__ import annotations

from crisp_onnx.lowering.matrix import Matrix

MICRO_BLOCK = (2, 2, 8)  # output rows, output columns, output channels
CYCLES_PER_STEP = 4
LANES = 32  # input channels of one step when a whole kernel tap is taken
TAPS = 4  # kernel taps of one step when 8 input channels are taken


def ethos_u_cycles(matrix: Matrix, cores: int) -> int:
    """Cycles of one layer; optimistic on small layers, whose commands wait for memory.

    A step multiplies either 32 input channels of one kernel tap or 8 input channels of 4 taps, whichever is faster;
    depthwise layers take 4 taps. The output stage writes at most 4 values a cycle and core.
    Source: formulas drawn from Vela 5.2.0, `npu_performance.py`.
    """
    out_h, out_w = matrix.out_hw
    positions = -(-out_h // MICRO_BLOCK[0]) * -(-out_w // MICRO_BLOCK[1]) * max(1, matrix.N // (out_h * out_w))
    taps = matrix.window[0] * matrix.window[1]
    depthwise = matrix.groups > 1 and taps == matrix.K
    if depthwise:
        channels = -(-matrix.groups * matrix.M // MICRO_BLOCK[2])
        steps = -(-taps // TAPS)
    else:
        inputs = matrix.K // taps
        channels = matrix.groups * -(-matrix.M // MICRO_BLOCK[2])
        steps = min(taps * -(-inputs // LANES), -(-taps // TAPS) * -(-inputs // MICRO_BLOCK[2]))
    cycles = CYCLES_PER_STEP * positions * channels * steps
    outputs = matrix.groups * matrix.M * matrix.N
    return max(-(-cycles // cores), -(-outputs // (4 * cores)))
