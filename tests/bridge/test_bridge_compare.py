"""The comparison with ONNX Runtime notices a wrong handler and names the first node that differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from crisp_onnx.bridge import compare_with_runtime, to_torch
from crisp_onnx.bridge.handlers import OPERATORS
from crisp_onnx.bridge.node import Node, Operator
from crisp_onnx.errors import CrispError, Defect
from crisp_onnx.model import Model
from crisp_onnx.model.answers import relative_difference

Parse = Callable[..., Model]
CHAIN = """g (float[N,3] x) => (float[N,3] y) {
    [start] a = Abs(x)
    [middle] b = Softsign(a)
    [end] y = Exp(b)
}"""


def _slightly_wrong(node: Node, x: Tensor) -> Tensor:
    return x / (1.001 + x.abs())


def test_a_wrong_handler_is_a_defect_that_names_the_first_node(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse(CHAIN)
    assert compare_with_runtime(to_torch(model), model) < 1e-6
    monkeypatch.setitem(OPERATORS, "Softsign", Operator(_slightly_wrong))
    with pytest.raises(Defect, match=r"'middle' \(Softsign, opset 17\), at its output 'b'"):
        compare_with_runtime(to_torch(model), model)


def test_16_bit_sums_may_differ_in_their_last_places_but_not_more(
    parse: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = ",".join(str(0x3000 + 37 * n) for n in range(64))
    model = parse(f"""g (float[N,64] x) => (float16[N,1] y) <float16[64,1] w = {{{weights}}}> {{
        h = Cast<to = 10>(x)
        [product] m = MatMul(h, w)
        y = Softsign(m)
    }}""")
    assert compare_with_runtime(to_torch(model), model) < 1e-2
    monkeypatch.setitem(OPERATORS, "MatMul", Operator(lambda node, a, b: 1.1 * (a @ b)))
    with pytest.raises(Defect, match=r"'product' \(MatMul"):
        compare_with_runtime(to_torch(model), model)


def test_a_fixed_batch_is_compared_at_that_batch(parse: Parse) -> None:
    model = parse("g (float[2,3] x) => (float[3,2] y) <int64[2] s = {3,2}> { y = Reshape(x, s) }")
    assert compare_with_runtime(to_torch(model), model) == 0.0


def test_a_model_that_the_runtime_cannot_load_is_an_error_of_the_input(parse: Parse) -> None:
    model = parse("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    module = to_torch(model)
    model.proto.graph.node[0].op_type = "Nonsense"
    with pytest.raises(CrispError, match=r"cannot load text\.onnx"):
        compare_with_runtime(module, model)


def test_the_mode_of_the_module_stays_as_it_was(parse: Parse) -> None:
    model = parse("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    module = to_torch(model).train()
    compare_with_runtime(module, model)
    assert module.training


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([1.0, 1.0], [np.nan, 1.0], np.inf),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
    ],
)
def test_relative_difference_is_of_the_largest_value(ours: list[float], theirs: list[float], difference: float) -> None:
    assert relative_difference(np.array(ours), np.array(theirs)) == difference
