"""Local functions: written out with the same answers, or refused where they would never end."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest

from crisp_onnx.errors import CrispError
from crisp_onnx.model import load
from crisp_onnx.model.functions import inlined, require_few_nodes

OPSETS = '<domain: "local", opset_import: ["" : 17, "local" : 1]>'


def nested(levels: int, calls: int = 2) -> str:
    """Functions F0 to F<levels - 1>, each of which calls the one before it `calls` times."""
    text = f"{OPSETS} F0 (a) => (b) {{ b = Abs(a) }}"
    for level in range(1, levels):
        steps = [f"t{k} = local.F{level - 1}({f't{k - 1}' if k else 'a'})" for k in range(calls)]
        text += f"\n{OPSETS} F{level} (a) => (t{calls - 1}) {{ {' '.join(steps)} }}"
    return text


def proto_of(levels: int, calls: int = 2) -> onnx.ModelProto:
    head = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'
    graph = f"g (float[N,4] x) => (float[N,4] y) {{ y = local.F{levels - 1}(x) }}"
    return onnx.parser.parse_model(f"{head} {graph}\n{nested(levels, calls)}")


@pytest.mark.parametrize(("levels", "calls"), [(40, 2), (24, 3), (150, 1)])
def test_functions_that_stand_for_too_large_a_graph_are_refused_at_once(tmp_path, levels, calls):
    path = tmp_path / "bomb.onnx"
    path.write_bytes(proto_of(levels, calls).SerializeToString())
    start = time.monotonic()
    with pytest.raises(CrispError, match=r"local functions of .*bomb\.onnx stand for"):
        load(path)
    assert time.monotonic() - start < 5


def test_functions_that_call_themselves_are_refused(tmp_path):
    proto = proto_of(3)
    proto.functions[0].node[0].op_type, proto.functions[0].node[0].domain = "F2", "local"
    with pytest.raises(CrispError, match="calls itself"):
        require_few_nodes(proto, tmp_path)


def test_calls_inside_subgraphs_count(tmp_path):
    proto = proto_of(16)
    branch = onnx.helper.make_graph([proto.graph.node[0]], "b", [], [proto.graph.output[0]])
    chosen = onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    require_few_nodes(proto, tmp_path)
    proto.graph.node.extend([chosen] * 3)
    with pytest.raises(CrispError, match="stand for"):
        require_few_nodes(proto, tmp_path)


def test_functions_are_written_out_with_the_same_answers(model_of, answers):
    functions = (
        f"{OPSETS} Twice (a) => (b) {{ b = Add(a, a) }}\n{OPSETS} Swish <beta> (a) => (b)"
        " { s = Sigmoid(a) t = Mul(a, s) b = local.Twice(t) }"
    )
    model = model_of(
        "(float[N,400] x) => (float[N,2] y) <float[400,2] w>{ h = local.Swish(x) t = local.Twice(h) y = MatMul(t, w) }",
        functions=functions,
    )
    plain = inlined(model)
    assert not plain.proto.functions
    assert {node.domain for node in plain.proto.graph.node} == {""}
    x = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    assert np.array_equal(answers(plain, x)[0], answers(model, x)[0])


def test_a_function_of_another_opset_is_written_out(model_of, answers):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) { y = local.Sharp(x) }",
        functions='<domain: "local", opset_import: ["" : 15]> Sharp (a) => (b) { b = Softmax<axis=1>(a) }',
    )
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    assert np.allclose(answers(inlined(model), x)[0], expected, atol=1e-6)


def test_functions_of_a_domain_may_stay(model_of):
    model = model_of(
        "(float[N,4] x) => (float[N,4] y) { y = local.Twice(x) }",
        functions=f"{OPSETS} Twice (a) => (b) {{ b = Add(a, a) }}",
    )
    assert inlined(model, but="local") is model
    assert inlined(model, but="other").proto.functions[:] == []


def test_more_nodes_than_are_worked_on_in_minutes_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("crisp_onnx.model.functions.MAX_NODES", 3)
    for count in (3, 4):
        steps = " ".join(f"t{k} = Relu({f't{k - 1}' if k else 'x'})" for k in range(count - 1))
        text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) {{ {steps} y = Abs(x) }}'
        onnx.save(onnx.parser.parse_model(text), tmp_path / "chain.onnx")
        if count == 3:
            load(tmp_path / "chain.onnx")
        else:
            with pytest.raises(CrispError, match=r"chain\.onnx holds 4 nodes, and at most 3 are worked on"):
                load(tmp_path / "chain.onnx")
