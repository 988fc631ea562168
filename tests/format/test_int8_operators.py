"""The bodies of the int8 operators: a stock runtime gives the bytes that whole numbers and one rounding give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from crisp_onnx.errors import VerificationFailed
from crisp_onnx.format import DOMAIN, OPERATORS, Pattern, decode, operator_function, recount
from crisp_onnx.format.node import Grid, HybridNode, Window, grids_of, int8_weight_of, is_int8, read, value_bytes_of
from crisp_onnx.format.operators import PACKED, Q_CONV, Q_CONV_ADD, Q_GEMM, X_GRID, Y_GRID, Z_GRID
from crisp_onnx.format.packing import HybridTensors, in_lanes, lane_width, out_of_lanes
from crisp_onnx.quantize.grids import LEAST_STEP
from crisp_onnx.runtime.layer_case import random_tensors

NEWEST = min(onnx.defs.onnx_opset_version(), 26)
OPSETS = sorted({13, 18, 21, NEWEST})


@dataclass(frozen=True)
class Case:
    """One int8 layer. `residual`: None where it adds none."""

    hybrid: HybridNode
    tensors: HybridTensors
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    data: Grid
    out: Grid
    residual: Grid | None

    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """The stored inputs by name."""
        grids = [(X_GRID, self.data), (Y_GRID, self.out), *([(Z_GRID, self.residual)] if self.residual else [])]
        stored: dict[str, npt.NDArray[Any]] = {slot: getattr(self.tensors, slot) for slot in PACKED}
        stored["values"] = in_lanes(self.tensors.values)
        for names, grid in grids:
            stored |= {names[0]: np.array(grid.scale, np.float32), names[1]: np.array(grid.zero, np.uint8)}
        return {**stored, "w_scale": self.scale, "bias": self.bias}

    def model(self, opset: int, rank: int) -> onnx.ModelProto:
        operator, stored = self.hybrid.operator, self.inputs()
        node = self.hybrid.proto("layer", [slot.name for slot in operator.slots], "Y")
        fed = [slot.name for slot in operator.slots if slot.name not in stored]
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * rank) for name in fed],
            [helper.make_tensor_value_info("Y", TensorProto.UINT8, [None] * rank)],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
        functions = [operator_function(operator.name, opset)]
        model = helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model

    def answer(
        self, x: npt.NDArray[np.uint8], z: npt.NDArray[np.uint8] | None = None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Loops over the window's places in int64, then one rounding; and how far each result is from a tie."""
        weight = decode(self.tensors, self.hybrid.shape, self.hybrid.pattern).astype(np.int64)
        centred = x.astype(np.int64) - self.data.zero
        window = self.hybrid.window
        if window is None:
            sums = centred @ weight.reshape(weight.shape[:2]).T + self.bias
            scale = self.scale.astype(np.float64)
        else:
            sums = _convolved(centred, weight, window) + self.bias.reshape(1, -1, 1, 1)
            scale = self.scale.astype(np.float64).reshape(1, -1, 1, 1)
        real = sums * (np.float64(np.float32(self.data.scale)) * scale)
        if z is not None and self.residual is not None:
            real = real + (z.astype(np.int64) - self.residual.zero) * np.float64(np.float32(self.residual.scale))
        steps = np.clip(real, self.hybrid.lower, self.hybrid.upper) / np.float64(np.float32(self.out.scale))
        bytes_ = np.clip(np.rint(steps) + self.out.zero, 0, 255).astype(np.uint8)
        return bytes_, np.abs(np.abs(steps - np.floor(steps)) - 0.5)


def _convolved(x: npt.NDArray[np.int64], weight: npt.NDArray[np.int64], window: Window) -> npt.NDArray[np.int64]:
    (top, left, bottom, right), (down, across), (high, wide) = window.pads, window.strides, window.dilations
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    rows, columns = window.out_sides(x.shape[2:], weight.shape[2:])
    sums = np.zeros((len(x), len(weight), rows, columns), np.int64)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = padded[:, :, i * high :, j * wide :][:, :, ::down, ::across][:, :, :rows, :columns]
            sums += np.einsum("nchw,oc->nohw", part, weight[:, :, i, j])
    return sums


def int8_tensors(rng: np.random.Generator, shape: Any, pattern: Pattern, kept: int) -> HybridTensors:
    found = random_tensors(rng, shape, pattern, kept)
    values = rng.integers(-127, 128, found.values.shape).astype(np.int8)
    return HybridTensors(values, found.indices, found.blocks)


def a_case(op: str, shape: Any, pattern: Pattern, kept: int, window: Window | None, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    hybrid = HybridNode(OPERATORS[op], pattern, shape, window, -0.75, 2.0)
    terms = kept * pattern.kept_columns
    scale = rng.uniform(0.2, 2, shape[0]).astype(np.float32) / 127
    data = Grid(0.02, int(rng.integers(0, 256)))
    spread = 127 * 74 * np.sqrt(terms) * data.scale * 1.1 / 127
    bias = rng.integers(-20000, 20000, shape[0]).astype(np.int32)
    out = Grid(float(np.float32(spread / 40)), int(rng.integers(0, 256)))
    hybrid = HybridNode(OPERATORS[op], pattern, shape, window, -spread, 2 * spread)
    residual = Grid(0.7 * out.scale, int(rng.integers(0, 256))) if op == Q_CONV_ADD else None
    return Case(hybrid, int8_tensors(rng, shape, pattern, kept), scale, bias, data, out, residual)


def stock(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def assert_same_bytes(found: npt.NDArray[np.uint8], expected: tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]):
    """Equal, but where the real result is a tie within float32; there one step apart at most."""
    bytes_, from_tie = expected
    assert found.dtype == np.uint8 and found.shape == bytes_.shape
    apart = np.abs(found.astype(int) - bytes_)
    assert apart.max(initial=0) <= 1
    assert (apart[from_tie > 1e-4] == 0).all()


CONVOLUTIONS = [
    ((64, 64, 3, 3), Pattern(2, 4, 32, 2), 5, Window(pads=(1, 1, 1, 1))),
    ((48, 24, 3, 3), Pattern(1, 4, 16, 1), 4, Window((2, 1), (0, 1, 2, 0))),
    ((100, 37, 1, 1), Pattern(2, 4, 16, 4), 2, Window((2, 2))),
    ((33, 17, 3, 3), Pattern(3, 4, 8, 2), 3, Window((1, 2), (2, 2, 2, 2), (2, 2))),
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: "x".join(map(str, c[0])))
def test_the_convolutions_give_the_bytes_of_whole_numbers(opset: int, case: Any) -> None:
    rng = np.random.default_rng(1)
    plain, added = a_case(Q_CONV, *case), a_case(Q_CONV_ADD, *case)
    sessions = stock(plain.model(opset, 4)), stock(added.model(opset, 4))
    for batch in (1, 3):
        x = rng.integers(0, 256, (batch, case[0][1], 15, 14)).astype(np.uint8)
        assert_same_bytes(sessions[0].run(None, {"X": x})[0], plain.answer(x))
        z = rng.integers(0, 256, plain.answer(x)[0].shape).astype(np.uint8)
        assert_same_bytes(sessions[1].run(None, {"X": x, "Z_in": z})[0], added.answer(x, z))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("lead", [(5,), (1, 3, 4)], ids=str)
def test_the_matrix_product_gives_the_bytes_of_whole_numbers(opset: int, lead: tuple[int, ...]) -> None:
    case = a_case(Q_GEMM, (50, 70, 1, 1), Pattern(2, 4, 16, 8), 2, None)
    x = np.random.default_rng(1).integers(0, 256, (*lead, 70)).astype(np.uint8)
    assert_same_bytes(stock(case.model(opset, len(lead) + 1)).run(None, {"X": x})[0], case.answer(x))


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([Q_CONV, Q_CONV_ADD, Q_GEMM]), st.data())
def test_extreme_scales_zero_points_and_bounds_give_those_bytes_too(seed: int, op: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    shape = (24, 40, 1, 1)
    case = a_case(op, shape, Pattern(2, 4, 8, 4), 3, None if op == Q_GEMM else Window(pads=(1, 0, 0, 1)), seed)
    power = data.draw(st.integers(int(np.ceil(np.log2(LEAST_STEP / case.out.scale))), 30))
    ends = data.draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0 * 2.0**power), (-np.inf, 0.0)]))
    zeros = data.draw(st.tuples(*[st.sampled_from([0, 1, 128, 255])] * 3))
    grids = [Grid(case.data.scale, zeros[0]), Grid(case.out.scale * 2.0**power, zeros[1])]
    residual = Grid(case.residual.scale * 2.0**power, zeros[2]) if case.residual else None
    hybrid = HybridNode(OPERATORS[op], case.hybrid.pattern, shape, case.hybrid.window, *ends)
    scale = (case.scale * np.float32(2.0) ** power).astype(np.float32)
    extreme = Case(hybrid, case.tensors, scale, case.bias, *grids, residual)
    x = rng.choice(np.array([0, 255], np.uint8), (2, 40) if op == Q_GEMM else (1, 40, 4, 5))
    fed = {"X": x}
    z = None
    if op == Q_CONV_ADD:
        z = rng.integers(0, 256, extreme.answer(x)[0].shape).astype(np.uint8)
        fed["Z_in"] = z
    assert_same_bytes(stock(extreme.model(17, x.ndim)).run(None, fed)[0], extreme.answer(x, z))


def test_a_stock_runtime_folds_the_expansion_into_one_int8_convolution(tmp_path: Any) -> None:
    case = a_case(Q_CONV, (32, 32, 3, 3), Pattern(), 3, Window(pads=(1, 1, 1, 1)))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(case.model(17, 4).SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node] == ["QLinearConv", "Clip"]


@pytest.mark.parametrize(("columns", "width"), [(8, 4), (6, 2), (3, 1), (64, 4), (1, 1)])
def test_neighbouring_columns_lie_in_lanes_and_come_out_of_them(columns: int, width: int) -> None:
    values = np.arange(2 * 3 * 4 * columns * 2).reshape(2, 3, 4, columns, 2)
    assert lane_width(columns) == width
    lanes = in_lanes(values)
    assert lanes.shape == (2, 3, 4, columns // width, 2, width)
    assert lanes[1, 2, 3, 0, 1].tolist() == values[1, 2, 3, :width, 1].tolist()
    assert (out_of_lanes(lanes) == values).all()


def graph_of(op: str) -> gs.Graph:
    case = a_case(op, (32, 48, 1, 1), Pattern(), 2, None if op == Q_GEMM else Window())
    return gs.import_onnx(case.model(17, 2 if op == Q_GEMM else 4))


@pytest.mark.parametrize("op", [Q_CONV, Q_CONV_ADD, Q_GEMM])
def test_an_int8_node_is_read_and_counted_with_a_byte_a_weight(op: str) -> None:
    graph = graph_of(op)
    (node,) = graph.nodes
    found = read(node)
    assert (found.operator.name, is_int8(node), value_bytes_of(node)) == (op, True, 1)
    assert int8_weight_of(node).scale.shape == (32,)
    assert (grids_of(node)[2] is None) == (op != Q_CONV_ADD)
    (layer,) = recount(graph)
    assert layer.value_bytes == 2 * 2 * 2 * 8 * 8
    assert layer.formula_bytes == layer.value_bytes + layer.metadata_bytes


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("slot", ["x_scale", "y_scale", "z_scale", "w_scale"])
def test_a_scale_that_is_no_scale_is_a_damaged_node(slot: str, bad: float) -> None:
    graph = graph_of(Q_CONV_ADD)
    place = OPERATORS[Q_CONV_ADD].place(slot) or 0
    tensor = graph.nodes[0].inputs[place]
    tensor.values = np.full_like(tensor.values, bad)
    with pytest.raises(VerificationFailed, match="scale"):
        recount(graph)


def test_a_grid_of_several_numbers_is_a_damaged_node() -> None:
    graph = graph_of(Q_CONV)
    place = OPERATORS[Q_CONV].place("x_zero") or 0
    graph.nodes[0].inputs[place].values = np.zeros(1, np.uint8)
    with pytest.raises(VerificationFailed, match="x_zero of shape"):
        read(graph.nodes[0])


def _cut(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[:-1] if values.ndim else values.reshape(1)


DAMAGES = (_cut, lambda v: v.reshape(-1), lambda v: v.astype(np.float64), lambda v: np.full_like(v, 127), np.zeros_like)


@settings(max_examples=60)
@given(st.sampled_from([Q_CONV, Q_CONV_ADD, Q_GEMM]), st.integers(1, 12), st.sampled_from(DAMAGES))
def test_a_damaged_int8_node_is_refused_by_its_name_or_is_whole(op: str, place: int, damage: Any) -> None:
    graph = graph_of(op)
    node = graph.nodes[0]
    tensor = node.inputs[min(place, len(node.inputs) - 1)]
    if isinstance(tensor, gs.Constant):
        tensor.values = damage(tensor.values)
    else:
        node.inputs.remove(tensor)
    try:
        (layer,) = recount(graph)
    except VerificationFailed as error:
        assert "'layer'" in str(error)
    else:
        assert layer.value_bytes + layer.metadata_bytes == layer.formula_bytes
