"""What a target makes of sparsity: never dearer than dense, stored as its descriptor says; where activations fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crisp_onnx.cost import cost_layer, estimate
from crisp_onnx.format import Pattern
from crisp_onnx.lowering import LayerSparsity, Target, load_target, lower, target_names
from crisp_onnx.lowering.detect import detect
from crisp_onnx.lowering.layers import Layer, lower_layer, lower_layers, product_kind
from crisp_onnx.lowering.lowered import LoweredOp, Source
from crisp_onnx.lowering.matrix import conv_matrix, product_matrix
from crisp_onnx.lowering.target import targets_folder
from crisp_onnx.model import Model

SOURCE = Source(file="none", sha256="")
MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "epyc_1_thread.yaml"


def changed(tmp: Path, name: str, *changes: tuple[str, str]) -> Target:
    text = (targets_folder() / f"{name}.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp / "t.yaml").write_text(text)
    return load_target(tmp / "t.yaml")


def lowered(target: Target, pattern: LayerSparsity, rows: int = 128, k: int = 1152, columns: int = 784) -> LoweredOp:
    layer = Layer("l", "MatMul", "gemm", product_matrix(rows, k, columns), pattern)
    return lower_layer(layer, target, target.descriptor.dtypes[0])


CPUS = [name for name in target_names() if load_target(name).descriptor.kind == "cpu"]


@pytest.mark.parametrize("name", CPUS)
@pytest.mark.parametrize("kept", [1, 69, 71, 72])
def test_a_hybrid_operator_never_costs_more_than_the_convolution_that_could_run_instead(name: str, kept: int) -> None:
    target, matrix = load_target(name), conv_matrix((128, 128, 3, 3), (1, 128, 28, 28), pads=(1, 1, 1, 1))
    pattern = LayerSparsity(0, 0, 16, 16, kept, 8, hybrid=True)
    ops = [
        lower_layer(Layer("l", op, product_kind(matrix, op), matrix, chosen), target, "fp32")
        for op, chosen in (("HybridConv", pattern), ("Conv", LayerSparsity()))
    ]
    sparse, dense = (cost_layer(op, target).latency_cycles for op in ops)
    assert sparse <= dense
    assert (sparse == dense) == ("runs as dense" in ops[0].seen.reason)
    assert ops[0].kind == ("conv3x3" if sparse == dense else "hybrid")


@pytest.mark.parametrize("name", [*CPUS, "epyc_1_thread"])
@pytest.mark.parametrize(
    "pattern",
    [Pattern(2, 8, 16), Pattern(4, 8, 32), Pattern(1, 2, 16), Pattern(3, 4, 8), Pattern(4, 4, 16, 4)],
    ids=str,
)
def test_our_kernels_run_every_pattern_of_the_format_as_it_stands(name: str, pattern: Pattern) -> None:
    target = load_target(MEASURED if name == "epyc_1_thread" else name)
    shape, kept = (128, 128, 3, 3), 16
    matrix = conv_matrix(shape, (1, 128, 28, 28), pads=(1, 1, 1, 1))
    nm = (pattern.n, pattern.m) if pattern.n < pattern.m else (0, 0)
    seen = LayerSparsity(*nm, pattern.block, pattern.block, kept, pattern.vector_rows, hybrid=True)
    tiling = lower_layer(Layer("l", "HybridConv", "hybrid", matrix, seen), target, "fp32").tiling
    assert tiling is not None
    share = kept / pattern.block_columns(shape) * pattern.density
    assert tiling.computed_macs == round(share * matrix.macs)
    # Places end in whole bytes there, and 4:4 has them too.
    assert tiling.stored_weight_bytes == pytest.approx(pattern.bytes(shape, kept), rel=0.02)


def test_a_hybrid_operator_of_more_overhead_than_it_saves_is_costed_dense(tmp_path: Path) -> None:
    overhead = """  by_kind:
    hybrid: {value: 1, unit: s, prov: assumed, ref: "none"}
dtypes:"""
    target = changed(tmp_path, "x86_avx512", ("dtypes:", overhead))
    matrix = conv_matrix((128, 128, 3, 3), (1, 128, 28, 28), pads=(1, 1, 1, 1))
    pattern = LayerSparsity(2, 4, 16, 16, 2, 8, hybrid=True)
    op = lower_layer(Layer("l", "HybridConv", "hybrid", matrix, pattern), target, "fp32")
    assert cost_layer(op, target).latency_ms < 100
    assert "so it runs as dense" in op.seen.reason


def test_low_blocks_that_need_more_streams_than_they_save_run_as_two_of_four_alone() -> None:
    target = load_target("stc_edge_int8")
    blocks = LayerSparsity(2, 4, 16, 16, 68)  # of 72 blocks
    op = lowered(target, blocks)
    alone, dense = (lowered(target, LayerSparsity(*nm)) for nm in ((2, 4), (0, 0)))
    costs = [cost_layer(found, target).latency_cycles for found in (op, alone, dense)]
    assert costs[0] == costs[1] < costs[2]
    assert "runs as 2:4 alone" in op.seen.reason
    assert op.pattern == blocks


@pytest.mark.parametrize(
    ("effect", "storage", "cycles", "smaller"),
    [
        ("skip", "true", True, True),
        ("skip", "false", True, False),
        ("gate", "true", False, True),
        ("gate", "false", False, False),
    ],
)
def test_weights_are_stored_as_the_descriptor_says_whatever_is_computed(
    tmp_path: Path, effect: str, storage: str, cycles: bool, smaller: bool
) -> None:
    target = changed(
        tmp_path,
        "stc_edge_int8",
        (
            'pattern: "2:4"\n      compute: skip\n      storage: true',
            f'pattern: "2:4"\n      compute: {effect}\n      storage: {storage}',
        ),
    )
    op, dense = lowered(target, LayerSparsity(2, 4)), lowered(target, LayerSparsity())
    assert op.tiling is not None
    assert dense.tiling is not None
    assert (op.tiling.array_cycles < dense.tiling.array_cycles) == cycles
    assert (op.tiling.stored_weight_bytes < dense.tiling.stored_weight_bytes) == smaller
    assert (op.tiling.gated_macs > 0) == (effect == "gate")


def test_the_dual_sided_machine_leaves_nearly_dense_weights_alone() -> None:
    target = load_target("dstc_edge_int8")
    nearly, dense = lowered(target, LayerSparsity(density=0.97)), lowered(target, LayerSparsity())
    assert nearly.tiling is not None
    assert dense.tiling is not None
    assert nearly.tiling.dram_read_bytes == dense.tiling.dram_read_bytes
    assert "too few to gain anything: it runs dense" in nearly.seen.reason
    assert "every zero is skipped" in lowered(target, LayerSparsity(density=0.5)).seen.reason


def test_rates_between_whole_lanes_are_kept() -> None:
    target = load_target("x86_avx2")
    layer = Layer("l", "MatMul", "gemm", product_matrix(1024, 1024, 1024))
    tilings = [lower_layer(layer, target, dtype).tiling for dtype in ("fp32", "int8")]  # type: ignore[arg-type]
    assert tilings[0] is not None
    assert tilings[1] is not None
    assert tilings[0].array_cycles / tilings[1].array_cycles == pytest.approx(21.3 / 16, rel=2e-3)


def test_groups_of_channels_register_no_more_than_their_own_work() -> None:
    target = load_target("nvidia_a100")
    matrix = conv_matrix((64, 8, 3, 3), (1, 64, 28, 28), pads=(1, 1, 1, 1))
    tiling = lower_layer(Layer("g", "Conv", product_kind(matrix, "Conv"), matrix), target, "int8").tiling
    assert tiling is not None
    assert tiling.register_accesses <= 2 * matrix.macs


def test_depthwise_layers_fill_the_vectors_of_a_processor() -> None:
    target = load_target("x86_avx512")
    matrix = conv_matrix((96, 1, 3, 3), (1, 96, 112, 112), pads=(1, 1, 1, 1))
    op = lower_layer(Layer("d", "Conv", "depthwise", matrix), target, "fp32")
    assert op.tiling is not None
    assert op.tiling.array_cycles < 1.1 * matrix.macs / 32


def test_blocks_of_sixteen_and_of_thirty_two_rows_are_equally_fast_on_a_processor() -> None:
    target = load_target("x86_avx512")
    cycles = []
    for side in (16, 32):
        pattern = LayerSparsity(2, 4, side, side, 576 // side, vector_rows=8, hybrid=True)
        layer = Layer("h", "HybridConv", "hybrid", product_matrix(128, 1152, 784), pattern)
        cycles.append(cost_layer(lower_layer(layer, target, "fp32"), target).compute_cycles)
    assert cycles[0] == cycles[1]


@pytest.mark.parametrize("nm", [(1, 4), (2, 8), (1, 8), (2, 4), (3, 4), (4, 8), (1, 2)])
def test_each_pattern_is_told_from_the_coarser_ones_that_hold_it(nm: tuple[int, int]) -> None:
    keep, group = nm
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 256), bool)
    for row in mask.reshape(-1, group):
        row[rng.choice(group, keep, replace=False)] = True
    found = detect(np.where(mask, 1.0, 0.0).reshape(64, 256, 1, 1))
    assert (found.nm_keep, found.nm_group) == nm


def test_finer_patterns_run_on_the_coarser_one_that_holds_them() -> None:
    target = load_target("nvidia_a100")
    for nm in ((1, 2), (2, 8), (1, 4)):
        assert lowered(target, LayerSparsity(*nm)).seen.nm == "skip"
    for nm in ((3, 8), (3, 4)):
        assert lowered(target, LayerSparsity(*nm)).seen.nm == "none"


def test_a_lookup_reads_the_rows_that_it_gives(model_of: Callable[..., Model]) -> None:
    text = "(int64[1,4] i) => (float[1,4,8] y) <float[1000,8] t> { g = Gather(t, i) y = Relu(g) }"
    (gather, _) = lower(model_of(text), "portable").operators
    assert gather.input_bytes == 4 * (4 * 8 + 4)


CHAIN = """(float[1,16,8,8] x) => (float[1,16,8,8] y) <float[16,16,3,3] w, float[16,16,3,3] v, float[16,16,3,3] u> {
  a = Conv <pads = [1,1,1,1]> (x, w)  b = Conv <pads = [1,1,1,1]> (a, v)  y = Conv <pads = [1,1,1,1]> (b, u) }"""


def test_activations_that_stay_on_the_chip_cost_no_memory(model_of: Callable[..., Model], tmp_path: Path) -> None:
    target = load_target("stc_edge_int8")
    first, middle, last = lower(model_of(CHAIN), target).operators
    weights, map_bytes = 16 * 16 * 9, 16 * 64
    assert first.dram_bytes == (weights + map_bytes, 0)
    assert middle.dram_bytes == (weights, 0)
    assert last.dram_bytes == (weights, map_bytes)
    small = changed(tmp_path, "stc_edge_int8", ("value: 262144, unit: B", "value: 1500, unit: B"))
    assert all(op.dram_bytes[0] > weights and op.dram_bytes[1] for op in lower(model_of(CHAIN), small).operators)


def test_the_peak_counts_what_is_alive_and_what_is_read(model_of: Callable[..., Model]) -> None:
    found = estimate(lower(model_of(CHAIN), "stc_edge_int8"), load_target("stc_edge_int8")).fit
    assert found.peak_activation_bytes == 2 * 16 * 64
    assert found.verdict == "on_chip"


def test_a_table_that_is_looked_up_needs_room_once_and_is_read_by_the_row(model_of: Callable[..., Model]) -> None:
    text = """(int64[1,16] i) => (float[1,16,64] y) <float[30000,64] e>
    { a = Gather(e, i) j = Identity(i) b = Gather(e, j) y = Add(a, b) }"""
    lowered = lower(model_of(text), "x86_avx512")
    assert estimate(lowered, load_target("x86_avx512")).fit.weight_bytes == 30_000 * 64 * 4
    assert [op.input_bytes for op in lowered.operators[:2]] == [(16 * 64 + 16) * 4] * 2


def test_a_model_larger_than_the_memory_does_not_fit(tmp_path: Path) -> None:
    target = changed(tmp_path, "jetson_orin_nano", ("value: 8000000000.0, unit: B", "value: 1000, unit: B"))
    layers = [Layer("l", "Gemm", "gemv", product_matrix(64, 4_000_000, 1))]
    assert estimate(lower_layers(layers, target, source=SOURCE), target).fit.verdict == "no"


def test_what_a_target_lacks_is_named_with_what_runs_it(model_of: Callable[..., Model]) -> None:
    text = "(float[1,16,8,8] x) => (float[1,16,8,8] y) <float[16,16,1,1] w> { a = Conv(x, w) y = Erf(a) }"
    target = load_target("coral_edge_tpu")
    found = estimate(lower(model_of(text), target), target)
    assert found.elsewhere == ("1 Erf runs on portable: coral_edge_tpu has no Erf",)
    leaned = {leaf.key for leaf in found.leaned_on}
    assert "clock.hz" in leaned
    assert "portable: clock.hz" in leaned
    assert found.layers[1].latency_ms == pytest.approx(
        estimate(lower(model_of(text), "portable", dtype="int8"), load_target("portable")).layers[1].latency_ms,
        rel=0.02,
    )


@pytest.mark.parametrize(
    ("target", "window", "present", "absent"),
    [
        (MEASURED, 3, "timing.kinds.conv_kxk.mac", "timing.kinds.gemm.mac"),
        (MEASURED, 3, "timing.granule", "array.rows"),
        ("x86_avx512", 5, "array.efficiency.conv3x3", "array.efficiency.conv1x1"),  # 5x5 shares the figure of 3x3
        ("x86_avx512", 3, "memory.0.read_bw", "memory.0.write_bw"),  # one bus for both
        ("x86_avx512", 3, "overhead.per_layer", "sparsity.block.min_bh"),
    ],
)
def test_an_estimate_says_that_it_leaned_on_what_it_used_and_on_nothing_else(
    target: str | Path, window: int, present: str, absent: str
) -> None:
    chosen, pad = load_target(target), window // 2
    matrix = conv_matrix((64, 64, window, window), (1, 64, 28, 28), pads=(pad,) * 4)
    layer = Layer("l", "Conv", product_kind(matrix, "Conv"), matrix)
    leaned = {leaf.key for leaf in estimate(lower_layers([layer], chosen, source=SOURCE), chosen).leaned_on}
    assert present in leaned
    assert absent not in leaned
