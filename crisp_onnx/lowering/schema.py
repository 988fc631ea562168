"""The keys of a hardware descriptor, schema `crisp-hw/1`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from crisp_onnx.lowering.quantity import (
    Bandwidth,
    Bits,
    Bytes,
    Columns,
    Count,
    EnergyRange,
    Frequency,
    Macs,
    Power,
    Ratio,
    Share,
    Strict,
    Throughput,
    Time,
    Values,
)

SCHEMA = "crisp-hw/1"
Dtype = Literal["int8", "fp16", "fp32"]
Effect = Literal["skip", "gate", "none"]
OpKind = Literal["conv3x3", "conv1x1", "conv", "depthwise", "grouped", "gemm", "gemv", "elementwise", "pool", "hybrid"]
Design = Literal["lanes", "outer_product", "systolic", "ethos_u", "host_link"]


class Clock(Strict):
    hz: Frequency


class Array(Strict):
    """The compute array: units x rows x lanes dense MACs a cycle at `bits` wide operands.

    `k_granule`: kept values of K are padded to it, and the padding is stored, moved and computed like any value.
    `tile_m`, `tile_n`: outputs that a unit of outer products holds; either way round where they differ. `dataflow`:
    what a systolic array holds: weights, inputs or outputs.
    """

    design: Design = "lanes"
    dataflow: Literal["ws", "is", "os"] = "ws"
    tile_m: Values | None = None
    tile_n: Values | None = None
    rows: Count | None = None
    lanes: Count | None = None
    units: Count | None = None
    subpartitions: Count | None = None
    bits: Bits | None = None
    peak_dense_mac_per_cycle: dict[Dtype, Macs] | None = None
    advertised_dense_tops: dict[Dtype, Throughput] | None = None
    advertised_sparse_tops: dict[Dtype, Throughput] | None = None
    m_granule: Values | None = None
    k_granule: Values | None = None
    n_granule: Values | None = None
    group_parallel: bool = False
    efficiency: dict[OpKind, Share] | None = None


class Layout(Strict):
    k_order: Literal["channel_last", "channel_first"]


class Memory(Strict):
    """One level; DRAM first, then the on-chip buffer that feeds the array.

    `double_buffer`: an operand fills at most half of it; otherwise tiles of both share all of it. `keeps_activations`:
    what one layer writes stays for the next where there is room, and costs no DRAM. `burst`: least that is transferred.
    """

    name: str
    capacity: Bytes | None = None
    read_bw: Bandwidth | None = None
    write_bw: Bandwidth | None = None
    mode: Literal["split", "shared"] = "shared"
    double_buffer: bool = False
    keeps_activations: bool = False
    pinned_weights: Bytes | None = None
    burst: Bytes | None = None
    read_latency: Time | None = None
    write_latency: Time | None = None


class OnChip(Strict):
    """`lrf_n`: output columns that one load of weights into the local registers serves.

    `accumulate_k`: kept values of K that are summed before the sums leave for the buffer; all of them where not given.
    `accumulator_rate`: sums a cycle that the accumulators of one unit take.
    """

    lrf_n: Columns | None = None
    accumulate_k: Values | None = None
    accumulator_rate: Macs | None = None


class NmSupport(Strict):
    """One n:m pattern: n kept of m neighbours along K."""

    pattern: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]?:[1-9][0-9]?$")]
    compute: Effect
    storage: bool = False
    max_speedup: Ratio | None = None
    meta_bits: Bits | None = None
    meta_coding: Literal["per_value", "per_group"] = "per_value"
    align_pow2: bool = False

    @property
    def keep(self) -> int:
        return int(self.pattern.split(":")[0])

    @property
    def group(self) -> int:
        return int(self.pattern.split(":")[1])


class BlockSupport(Strict):
    """Dropped blocks of weights. `full_rate_bh`: height from which block rows share one activation stream."""

    compute: Effect
    storage: bool = False
    min_bh: Values | None = None
    min_bw: Values | None = None
    full_rate_bh: Values | None = None
    index_bits: Bits | None = None


class UnstructuredSupport(Strict):
    """Zeros anywhere. `ga`, `gb`: weights and activations that one pass of an outer-product unit takes.

    `mask_per`: a position has a bit in the mask, and beside it every granule or every vector of a tile has one;
    granules without a nonzero then carry no mask. `dense_above`: share of the dense cycles above which nothing is
    compressed.
    """

    compute: Effect
    storage: bool = False
    ga: Values | None = None
    gb: Values | None = None
    codec: Literal["bitmask", "entropy", "none"] = "none"
    mask_per: Literal["granule", "tile"] | None = None
    dense_above: Share | None = None


class ActivationSupport(Strict):
    """Zeros of activations. `storage`: neither stored nor moved, one bit a position says where the others are."""

    compute: Effect = "none"
    storage: bool = False


class Sparsity(Strict):
    """`hybrid_operators_only`: plain nodes gain nothing; only this package's operators skip."""

    hybrid_operators_only: bool = False
    nm: tuple[NmSupport, ...] = ()
    block: BlockSupport | None = None
    unstructured: UnstructuredSupport | None = None
    activation: ActivationSupport | None = None


class EnergyTable(Strict):
    """Energy per action (buffer and DRAM per byte, metadata per bit), or a thermal design power to bound it.

    `dram_metadata`: whether metadata that comes from DRAM is charged; some published tables leave it out.
    """

    mac_pj: EnergyRange | None = None
    gated_mac_pj: EnergyRange | None = None
    lrf_pj: EnergyRange | None = None
    rf_read_pj: EnergyRange | None = None
    rf_write_pj: EnergyRange | None = None
    buffer_read_pj: EnergyRange | None = None
    buffer_write_pj: EnergyRange | None = None
    meta_read_pj: EnergyRange | None = None
    meta_write_pj: EnergyRange | None = None
    dram_pj: EnergyRange | None = None
    dram_metadata: bool = True
    static_w: Power | None = None
    from_tdp_w: Power | None = None


class Overhead(Strict):
    per_layer: Time | None = None
    per_inference: Time | None = None
    by_kind: dict[OpKind, Time] | None = None


TimingKind = Literal[
    "conv_first",
    "conv_kxk",
    "conv_kxk_unaligned",
    "conv_1x1",
    "conv_1x1_unaligned",
    "depthwise",
    "depthwise_unaligned",
    "grouped",
    "gemm",
    "gemv",
    "elementwise",
    "function",
    "transpose",
    "shuffle",
    "concat",
    "layout",
    "pool",
    "global_pool",
    "max_pool",
    "lrn",
    "normalise",
    "hybrid_kxk",
    "hybrid_1x1",
    "hybrid_gemm",
    "conversion",
    "int8_conv_first",
    "int8_conv_kxk",
    "int8_conv_1x1",
    "int8_depthwise",
    "int8_grouped",
    "int8_gemm",
    "int8_gemv",
    "int8_elementwise",
    "int8_function",
    "int8_transpose",
    "int8_shuffle",
    "int8_concat",
    "int8_layout",
    "int8_pool",
    "int8_global_pool",
    "int8_max_pool",
    "int8_max_pool_plain",
    "int8_pool_plain",
    "int8_hybrid_kxk",
    "int8_hybrid_1x1",
    "int8_hybrid_gemm",
    "int8_own_max_pool",
    "int8_own_depthwise",
    "int8_own_table",
]


class KindTiming(Strict):
    """Time of a layer of one kind: fixed, and per MAC and byte of stored weights, input and output.

    `far_weight_byte`: more for each byte of weights that comes from beyond a core's own caches. `far_byte`: more for
    each byte of input and output beyond what they hold. `pass_byte`: for each byte of output that an activation goes
    over again; `clamp_byte`: that a clamp on both sides does. `row`: for each row of a convolution's outputs, of every
    channel.
    """

    fixed: Time | None = None
    mac: Time | None = None
    weight_byte: Time | None = None
    far_weight_byte: Time | None = None
    input_byte: Time | None = None
    output_byte: Time | None = None
    far_byte: Time | None = None
    pass_byte: Time | None = None
    clamp_byte: Time | None = None
    row: Time | None = None


class Timing(Strict):
    """Measured times by kind of layer. They replace the array's model.

    `granule`: channels that the runtime groups. `near`: what a core's own cache holds.
    """

    granule: Values
    near: Bytes | None = None
    kinds: dict[TimingKind, KindTiming]


class Calibration(Strict):
    """What a measured target was measured on; the estimator warns on any other machine.

    `cores_apart_ns`: of several threads, a cache line's way from one core to another and back.
    """

    cpu: str
    threads: int
    governor: str
    onnxruntime: str
    date: str
    layers_fitted: int
    layers_held_out: int
    median_error_percent: float
    p90_error_percent: float
    cores_apart_ns: float | None = None


class Profiled(Strict):
    """Which vendor's profile the rates were fitted to, and the errors on layers held out."""

    tool: str
    files: str
    date: str
    layers_fitted: int
    layers_held_out: int
    median_error_percent: float
    p90_error_percent: float


class Descriptor(Strict):
    """A whole `crisp-hw/1` file."""

    schema_: Annotated[Literal["crisp-hw/1"], Field(alias="schema")]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    kind: Literal["accelerator", "gpu", "npu", "cpu", "portable"]
    version: int
    summary: str = ""
    clock: Clock
    array: Array
    layout: Layout = Layout(k_order="channel_last")
    memory: Annotated[tuple[Memory, ...], Field(min_length=1)]
    onchip: OnChip = OnChip()
    sparsity: Sparsity = Sparsity()
    energy: EnergyTable | None = None
    overhead: Overhead = Overhead()
    timing: Timing | None = None
    dtypes: Annotated[tuple[Dtype, ...], Field(min_length=1)]
    ops: tuple[str, ...] | None = None
    fallback: str | None = None
    calibration: Calibration | None = None
    profiled: Profiled | None = None
