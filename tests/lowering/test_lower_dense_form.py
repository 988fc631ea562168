"""Hybrid operators written as ordinary ones give the same answers; `lower` puts them beside its file where needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from crisp_onnx.api.hardware import lower as lower_file
from crisp_onnx.cost.calibrate.hybrid import hybrid_network
from crisp_onnx.cost.calibrate.synthetic import synthetic_network
from crisp_onnx.format import DOMAIN
from crisp_onnx.lowering import lower
from crisp_onnx.lowering.dense_form import dense_form
from crisp_onnx.model import Model, load, save, with_value_info
from crisp_onnx.quantize import rehearsed


def answers(path: Path) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    image = np.random.default_rng(0).standard_normal(spec.shape, dtype=np.float32)
    return np.asarray(session.run(None, {spec.name: image})[0])


@pytest.fixture(scope="module")
def sparse() -> list[Model]:
    found = [hybrid_network(synthetic_network(seed), seed) for seed in (2, 4, 8)]
    return [model for model in found if model is not None]


def test_the_dense_form_answers_like_the_hybrid_operators(sparse: list[Model], tmp_path: Path) -> None:
    assert sparse
    for number, model in enumerate(sparse):
        dense = dense_form(model)
        assert dense is not None
        save(model, tmp_path / f"hybrid{number}.onnx")
        save(dense, tmp_path / f"dense{number}.onnx")
        expected = answers(tmp_path / f"hybrid{number}.onnx")
        np.testing.assert_allclose(answers(tmp_path / f"dense{number}.onnx"), expected, rtol=1e-4, atol=1e-4)
        assert not load(tmp_path / f"dense{number}.onnx").proto.functions


def test_the_patterns_are_found_again_in_the_dense_form(sparse: list[Model], tmp_path: Path) -> None:
    model = sparse[0]
    dense = dense_form(model)
    assert dense is not None
    hybrid_ops = {op.name: op for op in lower(model, "stc_edge_int8").operators if op.pattern.has_nm}
    dense_ops = {op.name: op for op in lower(dense, "stc_edge_int8").operators}
    assert hybrid_ops
    for name, op in hybrid_ops.items():
        assert dense_ops[name].pattern.nm_keep <= op.pattern.nm_keep


def test_a_model_without_hybrid_operators_has_no_other_form() -> None:
    assert dense_form(synthetic_network(1)) is None


@pytest.mark.parametrize(
    ("target", "beside"), [("nvidia_a100", True), ("arm_ethos_u65", True), ("stc_edge_int8", False)]
)
def test_lower_writes_the_dense_form_for_tools_that_find_sparsity(
    sparse: list[Model], tmp_path: Path, target: str, beside: bool
) -> None:
    path = tmp_path / "net.onnx"
    save(sparse[0], path)
    lowered, written = lower_file(path, target)
    assert written.is_file()
    assert written.with_suffix(".onnx").is_file() == beside
    assert any("ordinary operators" in note for note in lowered.notes) == beside


def test_the_dense_form_takes_no_name_of_the_model(sparse: list[Model], tmp_path: Path) -> None:
    model = sparse[0]
    graph = model.graph()
    node = next(node for node in graph.nodes if node.domain == DOMAIN)
    reader = node.outputs[0].outputs[0]
    out = node.outputs[0]
    same = gs.Variable(f"{out.name}.product", out.dtype, out.shape)
    reader.inputs[list(reader.inputs).index(out)] = same
    graph.nodes.append(gs.Node("Identity", "same", {}, [out], [same]))
    named = model.with_graph(graph.toposort())
    dense = dense_form(named)
    assert dense is not None
    save(named, tmp_path / "hybrid.onnx")
    save(dense, tmp_path / "dense.onnx")
    np.testing.assert_allclose(
        answers(tmp_path / "dense.onnx"), answers(tmp_path / "hybrid.onnx"), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("target", ["nvidia_a100", "arm_ethos_u65"])
def test_of_operators_on_bytes_no_form_is_written_and_a_note_says_how_to_get_one(
    sparse: list[Model], tmp_path: Path, target: str
) -> None:
    shape = sparse[0].input.shape
    int8 = rehearsed(with_value_info(sparse[0]), size=(int(shape[2] or 0), int(shape[3] or 0))).model
    save(int8, tmp_path / "int8.onnx")
    lowered, path = lower_file(tmp_path / "int8.onnx", target)
    assert path.exists()
    assert not path.with_suffix(".onnx").exists()
    assert any("--precision int8 --emit dense" in note for note in lowered.notes)
