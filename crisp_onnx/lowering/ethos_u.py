"""Cycles and bytes of one layer on an Arm Ethos-U NPU: the block of outputs that its compiler chooses, and its cost.

Source of all figures and formulas: Vela 5.2.0, `npu_performance.py`, `architecture_allocator.py` and
`architecture_features.py`, for int8 with 32-bit accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.schema import Memory
from crisp_onnx.lowering.target import Target

BANK_BYTES = 1024
OUTPUT_BANKS = 2
LARGEST_BLOCK = (32, 64, 128)  # output rows, columns, channels
DEPTH_STEP = 16
SUB_KERNEL = 8  # taps of a window that one pass takes, along each side
BRICK = 16  # channels that lie together in the NPU's own layout
ADDITION = 3  # times the cycles that the output stage takes for a product's value
ARBITRATION = 4  # the next command is taken up after a quarter of a block's work
CYCLES_PER_STEP = 4
LANES = 32  # input channels of a step that takes one tap of the window
TAPS, PART_DEPTH = 4, 8  # taps and input channels of a step that takes several


@dataclass(frozen=True)
class Core:
    """What the compiler knows of one core: `micro`: (rows, columns, channels) of outputs a step.

    `banks` of buffer in the core, given out in `input_granule` and `sum_granule`; `output_cycles`: of the output stage
    for a value with its activation.
    """

    micro: tuple[int, int, int]
    banks: int
    input_granule: int
    sum_granule: int
    output_cycles: float


CORES = {
    256: Core((2, 2, 8), 46, 8, 16, 0.25),
    128: Core((1, 2, 8), 22, 4, 8, 0.5),
    64: Core((1, 1, 8), 16, 2, 4, 1.0),
    32: Core((1, 1, 4), 16, 2, 4, 2.0),
}


@dataclass(frozen=True)
class Port:
    """One memory as the NPU sees it: bytes a cycle, bytes of a burst, and cycles until a burst begins."""

    bandwidth: float
    burst: int
    read_latency: float
    write_latency: float


@dataclass(frozen=True)
class EthosRun:
    """Cycles of the NPU, and bytes of input and output that it moves, in whole bursts of the memory they lie in."""

    cycles: int
    input_bytes: int
    output_bytes: int
    input_on_chip: bool = False
    output_on_chip: bool = False

    @property
    def onchip_bytes(self) -> int:
        return self.input_bytes * self.input_on_chip + self.output_bytes * self.output_on_chip


@dataclass(frozen=True)
class Place:
    """Where a feature map lies: in which memory, and whether in the NPU's own layout (never at the model's border)."""

    port: Port
    bricks: bool


def ethos_u(
    matrix: Matrix, target: Target, *, input_on_chip: bool, output_on_chip: bool, inner: tuple[bool, bool]
) -> EthosRun:
    """`inner`: whether another operator wrote the input, and whether another reads the output.

    Raises:
        CrispError: the core is of a size that Vela does not know.
    """
    array = target.descriptor.array
    per_core = target.whole(array.rows) * target.whole(array.lanes)
    if per_core not in CORES:
        sizes = ", ".join(map(str, CORES))
        raise CrispError(
            f"{target.path}, key array: an Ethos-U core has {sizes} MACs, not {per_core}. Correct rows or lanes."
        )
    dram = _port(target.dram, target)
    sram = _port(target.buffer, target) if target.buffer else dram
    places = (Place(sram if input_on_chip else dram, inner[0]), Place(sram if output_on_chip else dram, inner[1]))
    forms = [matrix]
    if matrix.groups > 1 and matrix.window[0] * matrix.window[1] != matrix.K:
        # Groups one after another, or all in one with zeros between them.
        forms.append(replace(matrix, M=matrix.M * matrix.groups, K=matrix.K * matrix.groups, groups=1))
    runs = [_run(form, CORES[per_core], target.whole(array.units), places) for form in forms]
    run = min(runs, key=lambda r: max(r.cycles, (r.input_bytes + r.output_bytes) / dram.bandwidth))
    if matrix.residuals:
        run = _with_addition(run, matrix, CORES[per_core], target.whole(array.units))
    return replace(run, input_on_chip=input_on_chip, output_on_chip=output_on_chip)


def _with_addition(run: EthosRun, matrix: Matrix, core: Core, cores: int) -> EthosRun:
    """The addition of a residual is an operator of its own: it reads what the product wrote, and writes once more."""
    cycles = ceil(ADDITION * core.output_cycles / cores * matrix.residuals)
    return replace(run, cycles=run.cycles + cycles, output_bytes=3 * run.output_bytes)


def _port(memory: Memory, target: Target) -> Port:
    return Port(
        float(target.number(memory.read_bw) or 1),
        int(target.number(memory.burst) or 1),
        float(target.number(memory.read_latency) or 0),
        float(target.number(memory.write_latency) or 0),
    )


@dataclass(frozen=True)
class _Shape:
    """One image of a layer: sides and channels of input and output, window, stride."""

    in_hw: tuple[int, int]
    in_depth: int
    out_hw: tuple[int, int]
    out_depth: int
    window: tuple[int, int]
    stride: tuple[int, int]
    depthwise: bool

    @property
    def taps(self) -> int:
        return self.window[0] * self.window[1]

    @property
    def by_parts(self) -> bool:
        """Whether a step takes 4 taps of 8 input channels rather than one tap of 32."""
        if self.in_depth <= PART_DEPTH:
            return True
        part = self.in_depth * self.taps / (_up(self.in_depth, PART_DEPTH) * _up(self.taps, TAPS))
        return part > self.in_depth / _up(self.in_depth, LANES)


@dataclass(frozen=True)
class _Blocks:
    """Rows, columns and channels of the block of outputs, and of the block of inputs that it takes."""

    out: tuple[int, int, int]
    into: tuple[int, int, int]


def _shape(matrix: Matrix) -> tuple[_Shape, int]:
    """(one image, how many of them)."""
    taps = matrix.window[0] * matrix.window[1]
    depthwise = matrix.groups > 1 and taps == matrix.K
    depth = matrix.K // taps * (matrix.groups if depthwise else 1)
    out_hw = matrix.out_hw
    images = max(1, matrix.N // (out_hw[0] * out_hw[1]))
    channels = matrix.K // taps * matrix.groups
    area = max(1, matrix.inputs // max(1, channels * images))
    high = max(1, round(sqrt(area * out_hw[0] / out_hw[1])))
    in_hw = high, max(1, area // high)
    out_depth = matrix.M * (matrix.groups if depthwise else 1)
    repeats = images if depthwise else images * matrix.groups
    return _Shape(in_hw, depth, out_hw, out_depth, matrix.window, matrix.stride, depthwise), repeats


@lru_cache(maxsize=8192)
def _run(matrix: Matrix, core: Core, cores: int, places: tuple[Place, Place]) -> EthosRun:
    shape, repeats = _shape(matrix)
    blocks = _choose(shape, core)
    into, out = places
    counts = tuple(
        -(-whole // block) for whole, block in zip((*shape.out_hw, shape.out_depth), blocks.out, strict=True)
    )
    into_block = (min(blocks.into[0], shape.in_hw[0]), min(blocks.into[1], shape.in_hw[1]), blocks.into[2])
    passes = -(-shape.window[0] // SUB_KERNEL) * -(-shape.window[1] // SUB_KERNEL)
    fetched_blocks = counts[0] * counts[1] * (1 if shape.depthwise else counts[2])
    read = _position(into, shape.in_depth, blocks.into[2])
    written = _position(out, shape.out_depth, min(64, BRICK * cores, blocks.out[2]))
    fetched = into_block[0] * into_block[1] * read * passes * fetched_blocks
    out_block = tuple(min(pair) for pair in zip(blocks.out, (*shape.out_hw, shape.out_depth), strict=True))
    first_read = into_block[0] * into_block[1] * _position(into, min(blocks.into[2], shape.in_depth), blocks.into[2])
    first_written = out_block[0] * out_block[1] * written * out_block[2] / shape.out_depth
    waits = into.port.read_latency + first_read / into.port.bandwidth
    waits += out.port.write_latency + first_written / out.port.bandwidth
    return EthosRun(
        cycles=repeats * ceil(_cycles(shape, blocks, core, cores, waits)),
        input_bytes=ceil(repeats * fetched),
        output_bytes=ceil(repeats * shape.out_hw[0] * shape.out_hw[1] * written),
    )


def _cycles(shape: _Shape, blocks: _Blocks, core: Core, cores: int, waits: float) -> float:
    """All steps of the array or of the output stage, whichever is slower, and the first block's way in and out.

    Blocks at the edge take only the steps that they have. Short of what Vela's compiled estimator says where a layer
    of many small blocks waits for memory at every one of them (1 x 1 windows on large maps, up to a half).
    """
    micro = core.micro
    if micro[0] == 2 and shape.out_hw[0] == 1 and shape.out_hw[1] % 2 == 0 and shape.window[0] == 1:
        micro = (1, 4, micro[2])
    whole = (*shape.out_hw, shape.out_depth)
    block = tuple(min(pair) for pair in zip(blocks.out, whole, strict=True))
    per_step = _cycles_per_step(shape, blocks)
    all_steps, block_steps = (
        -(-sides[0] // micro[0]) * -(-sides[1] // micro[1]) * -(-sides[2] // micro[2]) for sides in (whole, block)
    )
    output = core.output_cycles / cores
    busy = max(per_step * all_steps / cores, output * whole[0] * whole[1] * whole[2])
    first = per_step * block_steps / cores + output * block[0] * block[1] * block[2]
    return busy + waits + first / ARBITRATION


def _cycles_per_step(shape: _Shape, blocks: _Blocks) -> float:
    """Cycles of one micro-block of outputs over the whole of K."""
    cycles = 0
    for taps in _sub_kernels(shape.window):
        if shape.depthwise:
            cycles += CYCLES_PER_STEP * -(-taps // TAPS)
        elif shape.by_parts:
            cycles += CYCLES_PER_STEP * -(-taps // TAPS) * -(-shape.in_depth // PART_DEPTH)
        else:
            cycles += CYCLES_PER_STEP * taps * -(-shape.in_depth // blocks.into[2])
    return cycles


def _sub_kernels(window: tuple[int, int]) -> list[int]:
    """Taps of each part of the window, parts being at most 8 x 8."""
    sides = [[min(SUB_KERNEL, side - start) for start in range(0, side, SUB_KERNEL)] for side in window]
    return [high * wide for high in sides[0] for wide in sides[1]]


def _position(place: Place, depth: int, run: int) -> float:
    """Bytes of one position with `depth` channels, of which `run` lie together; more channels never take fewer.

    The NPU's own layout has whole bricks of channels and fills bursts with them.
    """
    if place.bricks:
        return float(_up(depth, BRICK))
    burst = place.port.burst
    return max(part * burst / min(burst, run, _up(part, 8)) for part in {depth, depth // 8 * 8} if part)


@lru_cache(maxsize=8192)
def _choose(shape: _Shape, core: Core) -> _Blocks:
    """The block of outputs for which weights and inputs are fetched least, of those whose operands fit in the core.

    Now and then that of a larger layer takes less input than that of a smaller one: so do the compiler's own figures.
    """
    micro = core.micro
    limits = [_up(min(whole, most), step) for whole, most, step in
              zip((*shape.out_hw, shape.out_depth), LARGEST_BLOCK, micro, strict=True)]  # fmt: skip
    depths = _depths(shape.out_depth, limits[2], micro[2])
    rows, columns = (np.arange(step, most + 1, step) for step, most in zip(micro[:2], limits[:2], strict=True))
    grid = np.meshgrid(depths, rows, columns, indexing="ij")
    deep, high, wide = (axis.astype(np.int64).ravel() for axis in grid)
    into_high = _up_all((high - 1) * shape.stride[0] + min(shape.window[0], SUB_KERNEL), micro[0])
    into_wide = _up_all((wide - 1) * shape.stride[1] + min(shape.window[1], SUB_KERNEL), micro[1])
    into_deep = (
        deep if shape.depthwise else np.full_like(deep, _up(min(shape.in_depth, 16 if shape.by_parts else LANES), 8))
    )
    one_row = shape.out_hw[0] == 1 and shape.window[0] == 1 and micro[0] == 2
    held_high = np.minimum(high, 1) if one_row else high
    input_banks = _up_all(2 * -(-(into_high * into_wide * _up_all(into_deep, 8)) // BANK_BYTES), core.input_granule)
    sum_banks = _up_all(2 * -(-(held_high * wide * _up_all(deep, 8) * 4) // BANK_BYTES), core.sum_granule)
    fits = OUTPUT_BANKS + input_banks + sum_banks <= core.banks
    if not fits.any():
        return _Blocks(micro, (micro[0], micro[1], 8))
    tall, broad = -(-shape.out_hw[0] // held_high), -(-shape.out_hw[1] // wide)
    exact = shape.out_hw[0] / held_high * shape.out_hw[1] / wide
    weights = shape.taps * shape.in_depth * tall * broad * (1 if shape.depthwise else deep * (shape.out_depth / deep))
    repeats = -(-shape.window[0] // SUB_KERNEL) * -(-shape.window[1] // SUB_KERNEL)
    inputs = into_high * into_wide * shape.in_depth * repeats * exact
    inputs = inputs * (1 if shape.depthwise else -(-shape.out_depth // deep))
    cost = (inputs + weights) / (shape.out_hw[0] * shape.out_hw[1] * shape.out_depth)
    whole = shape.in_hw[0] * shape.in_hw[1] * shape.in_depth < 2 * into_high * into_wide * into_deep
    cost = np.where(fits, np.where(whole, cost / 2, cost), np.inf)
    best = int(np.argmin(cost))
    return _Blocks(
        (int(high[best]), int(wide[best]), int(deep[best])),
        (int(into_high[best]), int(into_wide[best]), int(into_deep[best])),
    )


def _depths(depth: int, limit: int, step: int) -> npt.NDArray[np.int64]:
    """Channels of a block: all of them, or whole steps of 16."""
    found: list[int] = []
    tried = max(step, min(limit, DEPTH_STEP))
    while True:
        tried = _up(tried, DEPTH_STEP) if tried < depth else tried
        if tried > limit:
            return np.array(found or [limit])
        found.append(tried)
        tried += step


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _up_all(counts: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
    return -(-counts // step) * step
