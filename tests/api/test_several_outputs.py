"""A model of several tasks: the first output named is judged, and what the others answer counts too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import coloured_images, residual_classifier

from crisp_onnx import CrispError, Recipe, check, compress


@pytest.fixture(scope="module")
def two_headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = residual_classifier(tmp_path_factory.mktemp("model") / "two.onnx")
    model = onnx.load(path)
    features = next(node.input[0] for node in model.graph.node if node.op_type == "Gemm")
    weight = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "second.weight"))
    model.graph.node.append(helper.make_node("MatMul", [features, "second.weight"], ["second"], name="second"))
    model.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 4]))
    onnx.save(model, path)
    return path


def test_a_compression_heeds_every_output_that_is_named(two_headed: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        model=two_headed, classes=(0, 2, 5), preprocess="signed", target="portable", sparsity=0.7, epochs=1,
        output_name=("logits", "second"), output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=coloured_images(8), eval_data=coloured_images(4, 1))
    told = "What the untouched model answers in 'second' (4 classes, logits) counts too: masks and training heed it."
    assert told in report.notes
    assert told in check(two_headed, output_name=("logits", "second")).notes
    assert not any("nothing looks after" in note for note in report.notes)


def test_int8_is_chosen_by_one_output(two_headed: Path) -> None:
    refusal = check(two_headed, output_name=("logits", "second"), precision="int8").refusal
    assert "give --output-name once" in refusal
    assert not check(two_headed, output_name=("logits",), precision="int8").refusal


def test_a_name_that_is_no_output_is_refused_wherever_it_stands(two_headed: Path) -> None:
    with pytest.raises(CrispError, match="no output 'secnd'; it has 'logits', 'second'"):
        compress(Recipe(model=two_headed, classes=(0, 2), output_name=("logits", "secnd")), data=coloured_images(4))
