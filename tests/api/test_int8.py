"""`compress --precision int8` on a small model: what the file holds, what the report says, what runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import onnxslim
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import CrispError, Recipe, Report, check, compress, inspect, verify
from crisp_onnx.api import compression as compression_module
from crisp_onnx.api import int8 as int8_module
from crisp_onnx.api import int8_able as able_module
from crisp_onnx.api import verification as verification_module
from crisp_onnx.api.int8_proof import require_agreement
from crisp_onnx.errors import VerificationFailed
from crisp_onnx.format import DOMAIN
from crisp_onnx.format.operators import Q_CONV, Q_CONV_ADD
from crisp_onnx.quantize import choice as choice_module
from crisp_onnx.recipe import make_recipe, read_recipe
from crisp_onnx.runtime.int8_layers import LayerAgreement, int8_agreement
from crisp_onnx.runtime.latency import measure_files
from crisp_onnx.runtime.library import load_library

CLASSES = (0, 2, 4)
IMAGES = [pair for pair in coloured_images() if pair[1] in CLASSES]

needs_kernels = pytest.mark.skipif(load_library().path is None, reason="this installation has no native kernels")


@pytest.fixture(scope="module", autouse=True)
def briefly() -> Iterator[None]:
    """Latency is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compression_module, verification_module):
            patch.setattr(module, "measure_files", partial(measure_files, budget_s=0.05))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, briefly: None) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("int8")
    recipe = Recipe(
        model=residual_classifier(folder / "small.onnx"), classes=CLASSES, sparsity=0.6, epochs=0, precision="int8",
        target="portable", preprocess="unit", output=folder / "out",
    )  # fmt: skip
    return folder, compress(recipe, data=IMAGES)


def test_the_hybrid_layers_pass_bytes_to_one_another_without_a_seam(small: tuple[Path, Report]) -> None:
    proto = onnx.load(small[0] / "out" / "model.onnx")
    nodes = {node.output[0]: node for node in proto.graph.node}
    hybrid = {node.op_type: node for node in proto.graph.node if node.domain == DOMAIN}
    assert set(hybrid) == {Q_CONV, Q_CONV_ADD} == {function.name for function in proto.functions}
    assert nodes[hybrid[Q_CONV_ADD].input[0]].op_type == Q_CONV
    residual, data = hybrid[Q_CONV_ADD].input[10], hybrid[Q_CONV].input[0]
    assert residual == data and nodes[data].op_type == "QuantizeLinear"
    real = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert not [
        node for node in real if nodes.get(node.input[0]) and nodes[node.input[0]].op_type == "DequantizeLinear"
    ]


def test_the_report_says_what_is_int8_and_what_it_costs(small: tuple[Path, Report]) -> None:
    report = small[1]
    found = report.quantisation
    assert found is not None and found.layers == 4 and found.layers_float32 == 0
    assert found.method in ("range", "percentile", "error") and found.error < 0.2
    assert [layer.precision for layer in report.layers] == ["int8"] * 4
    sparse = next(layer for layer in report.layers if layer.decision == "sparse")
    proto = onnx.load(small[0] / "out" / "model.onnx")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer}
    assert sparse.bytes == sum(stored[f"{sparse.weight}.{slot}"] for slot in ("values", "indices", "blocks"))
    assert report.file.bytes > report.file.bytes_formula == sum(stored.values())
    assert report.equivalence.worst_relative <= 1e-5
    saved = json.loads((small[0] / "out" / "report.json").read_text())
    assert saved["quantisation"]["layers"] == 4


def test_inspect_recounts_the_bytes_of_an_int8_file(small: tuple[Path, Report]) -> None:
    found = inspect(small[0] / "out" / "model.onnx")
    assert [layer.op for layer in found.layers] == [Q_CONV, Q_CONV_ADD]
    for layer in found.layers:
        assert layer.value_bytes + layer.metadata_bytes == layer.formula_bytes


def test_the_recipe_of_the_run_gives_the_same_file_again(small: tuple[Path, Report], tmp_path: Path) -> None:
    options = read_recipe(small[0] / "out" / "recipe.yaml")
    assert options["precision"] == "int8"
    compress(make_recipe({**options, "output": tmp_path / "again"}), data=IMAGES)
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (small[0] / "out" / "model.onnx").read_bytes()


def test_the_file_passes_checker_shape_inference_onnx_ir_and_onnxslim(
    small: tuple[Path, Report], tmp_path: Path, answers: Callable[..., list[np.ndarray]]
) -> None:
    path = small[0] / "out" / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    assert {"inner_relu.bytes", "total_relu.bytes"} <= {value.name for value in inferred.graph.value_info}
    x = np.random.default_rng(0).random((3, 3, 12, 12)).astype(np.float32)
    expected = answers(path, x)[0]
    onnx_ir.save(onnx_ir.load(path), tmp_path / "ir.onnx")
    onnx.save(onnxslim.slim(str(path)), tmp_path / "slim.onnx")
    for other in ("ir.onnx", "slim.onnx"):
        assert np.abs(answers(tmp_path / other, x)[0] - expected).max() <= 0.02 * np.abs(expected).max()


def test_the_runtime_answers_the_same_with_and_without_rewriting_the_graph(
    small: tuple[Path, Report], answers: Callable[..., list[np.ndarray]]
) -> None:
    path = small[0] / "out" / "model.onnx"
    x = np.random.default_rng(0).random((5, 3, 12, 12)).astype(np.float32)
    fused = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": x})[0]
    assert np.abs(answers(path, x)[0] - fused).max() <= 0.02 * np.abs(fused).max()


def test_the_report_tells_the_accuracy_of_the_same_network_in_float32(tmp_path: Path) -> None:
    base = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=CLASSES, sparsity=0.6, epochs=0, target="portable",
        preprocess="unit",
    )  # fmt: skip
    float32, int8 = (
        compress(
            base.model_copy(update={"precision": precision, "output": tmp_path / precision}),
            data=IMAGES, eval_data=IMAGES,
        ).accuracy
        for precision in ("fp32", "int8")
    )  # fmt: skip
    assert int8.float32 == float32.compressed and int8.float32.top1 is not None
    assert float32.float32.top1 is None


def test_a_run_that_sees_no_image_stays_in_float32_and_says_so(tmp_path: Path) -> None:
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=CLASSES, precision="int8", packed=(),
        preprocess="unit", output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe)
    assert report.quantisation is None
    assert any("nothing to calibrate int8" in note for note in report.notes)


def test_where_int8_costs_too_much_the_network_trains_with_rounding_and_then_its_noisiest_layers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_module, "MOST_POINTS", -1.0)  # whatever it costs is too much
    monkeypatch.setattr(choice_module, "MOST_POINTS", 100.0)  # and one layer in float32 makes it good
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=CLASSES, sparsity=0.6, epochs=2, precision="int8",
        target="portable", preprocess="unit", output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=IMAGES)
    found = report.quantisation
    assert found is not None and found.layers == 3 and found.layers_float32 == 1
    (left,) = [layer for layer in report.layers if layer.precision == "float32"]
    assert "% of its outputs are noise" in left.precision_reason
    assert found.epochs == 1 or any("did not help" in note for note in report.notes)
    planned = {layer.name: layer.density for layer in report.layers if layer.decision == "sparse"}
    assert all(layer.density <= planned[layer.name] for layer in inspect(tmp_path / "out" / "model.onnx").layers)


@needs_kernels
def test_verify_compares_kernels_and_bodies_layer_by_layer(small: tuple[Path, Report]) -> None:
    found = verify(small[0] / "small.onnx", small[0] / "out" / "model.onnx")
    assert any("2 operators on bytes" in note for note in found.notes)
    agreement = int8_agreement(small[0] / "out" / "model.onnx", np.ones((2, 3, 12, 12), np.float32))
    assert [layer.name for layer in agreement] == ["conv1", "conv2"] and all(layer.holds for layer in agreement)


def test_kernels_that_say_something_else_are_found() -> None:
    with pytest.raises(VerificationFailed, match=r"'conv9'.*up to 7 steps"):
        require_agreement((LayerAgreement("conv1", 1, 0.9995), LayerAgreement("conv9", 7, 0.9999)))
    with pytest.raises(VerificationFailed, match=r"99\.80 %"):
        require_agreement((LayerAgreement("conv1", 1, 0.998),))


def test_what_has_no_int8_form_is_refused_before_anything_is_learnt_and_by_check_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = residual_classifier(tmp_path / "small.onnx")
    assert check(path, preprocess="unit", precision="int8").refusal == ""

    def fails(*given: object, **named: object) -> None:
        raise CrispError("ONNX Runtime's quantiser cannot take it.")

    monkeypatch.setattr(able_module, "rehearsed", fails)
    assert "quantiser" in check(path, preprocess="unit", precision="int8").refusal
    recipe = Recipe(model=path, classes=CLASSES, precision="int8", preprocess="unit", output=tmp_path / "out")
    with pytest.raises(CrispError, match="quantiser"):
        compress(recipe, data=IMAGES)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_kernels
def test_each_layer_is_timed_in_both_precisions_and_the_report_shows_it(tmp_path: Path) -> None:
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=CLASSES, sparsity=0.8, epochs=0, precision="int8",
        preprocess="unit", output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=IMAGES)
    timed = [layer for layer in report.layers if layer.dense_ms is not None]
    assert {layer.name for layer in timed} == {"conv1", "conv2"}
    for layer in timed:
        assert (layer.decision == "sparse") == (layer.dense_float32_ms is not None)
