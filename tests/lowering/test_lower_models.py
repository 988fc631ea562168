"""Lowering ONNX models: shapes, fused neighbours, patterns as each target sees them, and the published schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import inf
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper, parser

from crisp_onnx.cost import estimate
from crisp_onnx.errors import CrispError
from crisp_onnx.format import DOMAIN, VERSION, operator_function
from crisp_onnx.lowering import (
    Lowered,
    load_target,
    lower,
    lowered_json_schema,
    lowered_path,
    read_lowered,
    write_lowered,
)
from crisp_onnx.lowering.detect import detect
from crisp_onnx.lowering.layer_sparsity import LayerSparsity, see
from crisp_onnx.lowering.target import targets_folder
from crisp_onnx.model import Model, load

BLOCK_NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,8,16,16] x) => (float[1,10] y)
<float[16,8,3,3] w1, float[16] g, float[16] b, float[16] m, float[16] v, float[16,16,1,1] w2, float[16,1,3,3] w3,
 float[10,16] w4, float[10] b4>
{
  c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1)
  n1 = BatchNormalization (c1, g, b, m, v)
  r1 = Relu (n1)
  c2 = Conv (r1, w2)
  a = Add (c2, r1)
  r2 = Relu (a)
  c3 = Conv <pads = [1,1,1,1], group = 16> (r2, w3)
  s = Sigmoid (c3)
  u = Mul (c3, s)
  p = GlobalAveragePool (u)
  f = Flatten (p)
  y = Gemm <transB = 1> (f, w4, b4)
}
"""


def built(text: str, folder: Path, weights: Callable[[tuple[int, ...]], np.ndarray] | None = None) -> Model:
    """The model of `text` with weights filled in (random ones by default), saved and loaded."""
    proto = parser.parse_model(text)
    rng = np.random.default_rng(0)
    make = weights or (lambda shape: rng.standard_normal(shape, dtype=np.float32))
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in proto.graph.value_info}
    del proto.graph.value_info[:]
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(make(shape).astype(np.float32), name))
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return load(path)


@pytest.fixture(scope="module")
def block_net(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return built(BLOCK_NET, tmp_path_factory.mktemp("net"))


def test_every_operator_that_costs_time_is_lowered_once_with_its_fused_neighbours(block_net: Model) -> None:
    lowered = lower(block_net, "stc_edge_int8")
    found = [(op.op, op.kind, [name.split("_")[0] for name in op.fused]) for op in lowered.operators]
    assert found == [
        ("Conv", "conv3x3", ["BatchNormalization", "Relu"]),
        ("Conv", "conv1x1", ["Add", "Relu"]),
        ("Conv", "depthwise", ["Sigmoid", "Mul"]),
        ("GlobalAveragePool", "pool", []),
        ("Gemm", "gemv", []),
    ]


SELF_GATES = {
    "swish": "s = Sigmoid (c) \n y = Mul (c, s)",
    "mish": "p = Softplus (c) \n t = Tanh (p) \n y = Mul (c, t)",
    "GELU by erf": "d = Div (c, root) \n e = Erf (d) \n a = Add (e, one) \n m = Mul (c, a) \n y = Mul (m, half)",
    "GELU by tanh": (
        "q = Mul (c, c) \n u = Mul (q, c) \n v = Mul (u, half) \n k = Add (c, v) \n t = Tanh (k) \n"
        "a = Add (t, one) \n m = Mul (half, a) \n y = Mul (c, m)"
    ),
}


@pytest.mark.parametrize("gate", SELF_GATES)
@pytest.mark.parametrize("behind", ["", "z = Relu (y)"])
def test_a_function_written_out_in_several_nodes_runs_inside_its_product(
    gate: str, behind: str, tmp_path: Path
) -> None:
    head = "<float[4,3,1,1] w, float[1] root, float[1] one, float[1] half>"
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,4,4] x) => (float[1,4,4,4] {"z" if behind else "y"}) {head}
{{ c = Conv (x, w) \n {SELF_GATES[gate]} \n {behind} }}"""
    model = built(text, tmp_path)
    (op,) = lower(model, "stc_edge_int8").operators
    assert len(op.fused) == len(model.proto.graph.node) - 1
    assert len(op.fused_ops) == len(op.fused)


@pytest.mark.parametrize(
    "text",
    [
        "a = Sigmoid (c) \n b = Tanh (c) \n y = Concat <axis = 1> (a, b)",  # two results
        "a = GlobalAveragePool (c) \n y = Mul (c, a)",  # not value by value
        "a = Sigmoid (c) \n y = Mul (a, x)",  # of another tensor too
    ],
)
def test_what_is_no_function_of_one_tensor_stays_apart(text: str, tmp_path: Path) -> None:
    model = built(
        f"""<ir_version: 8, opset_import: ["" : 17]>
net (float[1,4,4,4] x) => (float[N,M,P,Q] y) <float[4,4,1,1] w> {{ c = Conv (x, w) \n {text} }}""",
        tmp_path,
    )
    assert lower(model, "stc_edge_int8").operators[0].fused in ((), ("Sigmoid_1",), ("a",))
    assert len(lower(model, "stc_edge_int8").operators) > 1


def test_a_pool_says_how_many_values_it_takes_for_each_that_it_gives(tmp_path: Path) -> None:
    model = built(
        """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,4,8,8] x) => (float[1,4,1,1] y) { p = MaxPool <kernel_shape = [3, 2]> (x) y = GlobalAveragePool (p) }""",
        tmp_path,
    )
    assert [op.taps for op in lower(model, "stc_edge_int8").operators] == [6, 1]


def test_matrix_shapes_follow_the_convolution(block_net: Model) -> None:
    first, second, third, pool, last = lower(block_net, "stc_edge_int8").operators
    assert [(m.groups, m.M, m.K, m.N) for m in (first.matrix, second.matrix, third.matrix, last.matrix) if m] == [
        (1, 16, 72, 64),
        (1, 16, 16, 64),
        (16, 1, 9, 64),
        (1, 10, 16, 1),
    ]
    assert first.matrix is not None
    assert (first.matrix.inputs, first.matrix.outputs) == (8 * 256, 16 * 64)
    assert second.matrix is not None
    assert second.matrix.residuals == 16 * 64
    assert (pool.input_bytes, pool.output_bytes) == (16 * 64, 16)


def test_totals_are_the_sums_over_the_operators(block_net: Model) -> None:
    lowered = lower(block_net, "x86_avx2")
    macs = 16 * 72 * 64 + 16 * 16 * 64 + 16 * 9 * 64 + 160
    assert lowered.totals.macs == macs
    assert lowered.totals.stored_weight_bytes == 4 * (16 * 72 + 16 * 16 + 16 * 9 + 160)
    assert lowered.model.sha256 == block_net.sha256


def test_a_larger_batch_moves_more_but_stores_the_same(block_net: Model, tmp_path: Path) -> None:
    free = built(BLOCK_NET.replace("float[1,8", "float[N,8").replace("float[1,10]", "float[N,10]"), tmp_path)
    one, four = lower(free, "stc_edge_int8"), lower(free, "stc_edge_int8", batch=4)
    assert four.totals.macs == 4 * one.totals.macs
    assert four.totals.stored_weight_bytes == one.totals.stored_weight_bytes
    assert four.batch == 4


def test_the_file_is_written_read_back_and_obeys_its_published_schema(block_net: Model, tmp_path: Path) -> None:
    target = load_target("stc_edge_int8")
    lowered = lower(block_net, target)
    path = lowered_path(tmp_path / "net.onnx", target)
    write_lowered(lowered, path)
    assert path.name == "net.stc_edge_int8.json"
    assert read_lowered(path) == lowered
    jsonschema.validate(json.loads(path.read_text()), json.loads(lowered_json_schema()))
    assert estimate(read_lowered(path), target) == estimate(lowered, target)


def test_a_file_that_was_lowered_for_other_numbers_of_the_same_target_is_refused(
    block_net: Model, tmp_path: Path
) -> None:
    said = (targets_folder() / "portable.yaml").read_text()
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(said)
    second.write_text(re.sub(r"(hz: \{value: )[0-9.e+]+", r"\g<1>123456789.0", said, count=1))
    assert first.read_text() != second.read_text()
    lowered = lower(block_net, load_target(first))
    assert estimate(lowered, load_target("portable")).target == "portable"  # it says the same
    with pytest.raises(CrispError, match=r"says other things now.*Lower it again"):
        estimate(lowered, load_target(second))


def test_the_schema_in_the_documentation_is_the_one_of_the_code() -> None:
    published = Path(__file__).parents[2] / "docs" / "crisp-lowered-1.schema.json"
    assert json.loads(published.read_text()) == json.loads(lowered_json_schema())


def test_a_damaged_lowered_file_is_one_clear_error(block_net: Model, tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(lower(block_net, "portable").to_json().replace('"crisp-lowered/1"', '"crisp-lowered/9"'))
    with pytest.raises(CrispError, match="run `crisp-onnx lower` again"):
        read_lowered(path)
    with pytest.raises(CrispError, match="cannot be read"):
        read_lowered(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("tiling", "array_cycles"), -5, "operators.0.tiling.array_cycles: -5 is less than nothing"),
        (("tiling", "dram_read_bytes"), -5, "operators.0.tiling.dram_read_bytes: -5"),
        (("pattern", "nm_keep"), -2, "operators.0.pattern.nm_keep: -2"),
        (("matrix", "M"), 0, "operators.0.matrix.M: is 0"),
        (("matrix", "window"), [0, 3], "operators.0.matrix.window: is 0"),
        (("tiling",), None, "operators.0.tiling: a product has a matrix and its tiling"),
        (("matrix",), None, "operators.0.tiling: a product has a matrix and its tiling"),
        (("name",), "c2", "operators.1.name: 'c2' is the name of another operator too"),
    ],
)
def test_a_lowered_file_with_numbers_that_no_model_has_is_refused_for_them(
    block_net: Model, tmp_path: Path, place: tuple[str, ...], value: object, said: str
) -> None:
    content = json.loads(lower(block_net, "stc_edge_int8").to_json())
    part = content["operators"][0]
    content["operators"][1]["name"] = "c2"
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(CrispError) as caught:
        read_lowered(tmp_path / "l.json")
    assert said in str(caught.value)


def sparse_weight(shape: tuple[int, ...], nm: tuple[int, int], blocks: int, side: int) -> np.ndarray:
    """(Cout, Cin, kh, kw) with n:m along K, input channel fastest, and the first `blocks` of each block row kept."""
    rng = np.random.default_rng(1)
    matrix = rng.uniform(0.5, 1, (shape[0], shape[2] * shape[3] * shape[1]))
    matrix[:, np.arange(matrix.shape[1]) % nm[1] >= nm[0]] = 0
    for row in range(0, shape[0], side):
        keep = (row // side + np.arange(blocks)) % (matrix.shape[1] // side)
        dropped = ~np.isin(np.arange(matrix.shape[1]) // side, keep)
        matrix[row : row + side, dropped] = 0
    return np.moveaxis(matrix.reshape(shape[0], shape[2], shape[3], shape[1]), -1, 1).astype(np.float32)


@pytest.mark.parametrize(("nm", "blocks", "side"), [((2, 4), 3, 16), ((1, 4), 2, 32), ((2, 4), 9, 16)])
def test_patterns_are_found_again_in_stored_zeros(nm: tuple[int, int], blocks: int, side: int) -> None:
    weight = sparse_weight((64, 16 * side // 16, 3, 3), nm, blocks, side)
    found = detect(weight)
    assert (found.nm_keep, found.nm_group) == nm
    whole = weight.shape[1] * 9 // side
    assert (found.block_rows, found.kept_blocks) == ((side, blocks) if blocks < whole else (0, 0))


def test_dense_and_randomly_sparse_weights_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((32, 32, 3, 3))
    assert detect(weight) == LayerSparsity()
    weight[rng.random(weight.shape) < 0.6] = 0
    assert detect(weight).name.startswith("unstructured")


SEEN = {
    "stc_edge_int8": ("skip", "skip", ""),
    "nvidia_a100": ("skip", "none", "dropped blocks gain nothing"),
    "arm_ethos_u65": ("none", "none", "weights are compressed in memory, zeros are computed"),
    "dstc_edge_int8": ("none", "none", "every zero is skipped"),
    "coral_edge_tpu": ("none", "none", "coral_edge_tpu has no 2:4"),
    "portable": ("store", "store", "only stored smaller"),
    "x86_avx512": ("none", "none", "only in hybrid operators"),
}


@pytest.mark.parametrize("name", sorted(SEEN))
def test_each_target_says_what_it_makes_of_a_hybrid_pattern_and_why(name: str) -> None:
    seen = see(LayerSparsity(2, 4, 64, 64, 5), load_target(name), k=1152, kernel_taps=9)
    nm, block, reason = SEEN[name]
    assert (seen.nm, seen.block) == (nm, block)
    assert reason in seen.reason


def test_a_one_to_four_model_runs_at_two_to_four_speed_on_a_two_to_four_target() -> None:
    seen = see(LayerSparsity(1, 4), load_target("nvidia_a100"), k=1152)
    assert (seen.runs_as.nm_keep, seen.runs_as.nm_group) == (2, 4)
    assert "speed of 2:4" in seen.reason


def test_blocks_below_the_least_height_are_not_skipped() -> None:
    seen = see(LayerSparsity(0, 0, 8, 8, 5), load_target("stc_edge_int8"), k=1152)
    assert seen.block == "store"
    assert "below the least of 16" in seen.reason


def hybrid_model(folder: Path) -> Model:
    """One HybridConv, 32 x 64 x 3 x 3 at 2:4 with 9 of 36 blocks of 16, as `compress` emits it."""
    rows, kept, groups, columns, vector = 2, 9, 2, 8, 8
    tensors = {
        "w.values": np.ones((rows, kept, groups, columns, vector), np.float32),
        "w.indices": np.zeros((rows, kept, groups, columns * 2 // 8), np.uint8),
        "w.blocks": np.tile(np.arange(kept, dtype=np.int32), (rows, 1)),
        "bias": np.zeros(32, np.float32),
    }
    x = gs.Variable("x", np.float32, (1, 64, 14, 14))
    y = gs.Variable("y", np.float32, (1, 32, 14, 14))
    attributes = {"n": 2, "m": 4, "block": 16, "vector_rows": vector, "index_bits": 2, "weight_shape": [32, 64, 3, 3]}
    attributes |= {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "lower": 0.0, "upper": inf}
    inputs = [x, *(gs.Constant(name, value) for name, value in tensors.items())]
    node = gs.Node("HybridConv", "conv", attrs=attributes, inputs=inputs, outputs=[y], domain=DOMAIN)
    proto = gs.export_onnx(gs.Graph([node], [x], [y], opset=17))
    del proto.opset_import[:]
    proto.opset_import.extend([onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, VERSION)])
    proto.functions.append(operator_function("HybridConv", 17))
    path = folder / "hybrid.onnx"
    onnx.save(proto, path)
    return load(path)


def test_a_hybrid_operator_is_lowered_from_its_attributes_and_tensors(tmp_path: Path) -> None:
    (op,) = lower(hybrid_model(tmp_path), "stc_edge_int8").operators
    assert op.pattern == LayerSparsity(2, 4, 16, 16, 9, vector_rows=8, hybrid=True)
    assert op.weight == "w"
    assert op.matrix is not None
    assert (op.matrix.M, op.matrix.K, op.matrix.N) == (32, 576, 196)
    assert op.tiling is not None
    assert (op.tiling.k_span, op.tiling.k_kept) == (144, 72)


def test_the_hybrid_operator_is_what_a_processor_gains_from(tmp_path: Path) -> None:
    target = load_target("x86_avx512")
    found = estimate(lower(hybrid_model(tmp_path), target), target)
    assert found.speedup > 3
    assert found.amdahl.left_dense == ()
    assert found.dense.layers[0].kind == "conv3x3"


def test_real_models_are_lowered_whole(shared_data: Path) -> None:
    lowered: Lowered = lower(load(shared_data / "models" / "mobilenetv2_imagenet.onnx"), "stc_edge_int8")
    assert lowered.notes == ()
    assert lowered.totals.macs == pytest.approx(300.8e6, rel=1e-3)
    assert sum(op.kind == "depthwise" for op in lowered.operators) == 17
    assert sum(bool(op.matrix and op.matrix.residuals) for op in lowered.operators) == 10


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("y = Identity (x)", "no operator that takes any time"),
        ("a = Identity (x) y = Relu (a)", ""),
    ],
)
def test_a_model_without_anything_to_lower_says_why(node: str, words: str, tmp_path: Path) -> None:
    model = built(
        f"""<ir_version: 8, opset_import: ["" : 17]>
net (float[1,4] x) => (float[1,4] y) {{ {node} }}""",
        tmp_path,
    )
    if not words:
        assert len(lower(model, "stc_edge_int8").operators) == 1
        return
    with pytest.raises(CrispError, match=words):
        lower(model, "stc_edge_int8")


def test_operators_without_a_cost_model_are_named_where_there_is_nothing_else(tmp_path: Path) -> None:
    model = built(
        """<ir_version: 8, opset_import: ["" : 17]>
net (float[5,1,8] x) => (float[5,1,1,16] y) <float[1,64,8] w, float[1,64,16] r>
{ y = LSTM <hidden_size = 16> (x, w, r) }""",
        tmp_path,
    )
    with pytest.raises(CrispError, match=r"nothing to lower: LSTM .* has no cost model"):
        lower(model, "stc_edge_int8")
