"""The road of a segmentation network, in process: what `compress` reports of pixels, and what it refuses first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from crisp_onnx import Recipe, check, compress, verify
from crisp_onnx.api.question import read_question
from crisp_onnx.errors import CrispError
from crisp_onnx.masks.planner import BUDGET_TOLERANCE
from crisp_onnx.model import load
from crisp_onnx.report.schema import Segmentation, from_json

SIDE, OUTPUTS, COUNT = 8, 4, 6
WANTED = (2, 0)
NET = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,4,8,8] y)
<float[16,3,3,3] a, float[32,16,3,3] b, float[32,16,2,2] up, float[16,32,3,3] c, float[4,16,1,1] d> {
  [a] h = Conv <pads=[1,1,1,1]> (x, a)
  hr = Relu(h)
  p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (hr)
  [b] m = Conv <pads=[1,1,1,1]> (p, b)
  mr = Relu(m)
  [up] w = ConvTranspose <strides=[2,2]> (mr, up)
  s = Concat <axis=1> (w, hr)
  [c] k = Conv <pads=[1,1,1,1]> (s, c)
  kr = Relu(k)
  [d] y = Conv(kr, d)
}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("road"), np.random.default_rng(0)
    proto = parser.parse_model(NET)
    for value in proto.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        weight = random.normal(0, np.sqrt(2 / np.prod(dims[1:])), dims).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, value.name))
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    onnx.save(proto, root / "net.onnx")
    x = random.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    y = random.choice([0, 1, 2, 3, 255], (COUNT, SIDE, SIDE))
    np.savez(root / "d.npz", x=x, y=y)
    np.savez(root / "bare.npz", x=x)
    return root


def recipe(place: Path, output: Path, **options: Any) -> Recipe:
    given = {
        "model": place / "net.onnx", "task": "segmentation", "classes": WANTED, "data": place / "d.npz",
        "preprocess": "unit", "target": "portable", "epochs": 1, "sparsity": 0.5, "output": output,
    }  # fmt: skip
    return Recipe(**{**given, **options})


def iou_by_loops(answers: np.ndarray, labels: np.ndarray) -> float:
    shares = []
    for index in WANTED:
        both = either = 0
        for scores, truth in zip(np.moveaxis(answers, 1, -1).reshape(-1, OUTPUTS), labels.reshape(-1), strict=True):
            if truth in WANTED:
                found = max(WANTED, key=lambda c: scores[c])
                both += found == truth == index
                either += index in (found, truth)
        shares.append(both / either)
    return sum(shares) / len(shares)


def test_the_road_ends_in_a_report_whose_mean_iou_is_that_of_plain_loops(
    place: Path, tmp_path: Path, answers: Any
) -> None:
    report = compress(recipe(place, tmp_path, eval_data=place / "d.npz"))
    found = report.segmentation
    assert found is not None and found.n == COUNT and report.accuracy.source == "not measured"
    data = np.load(place / "d.npz")
    x = data["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    for path, score in ((place / "net.onnx", found.dense), (tmp_path / "model.onnx", found.compressed)):
        (maps,) = answers(path, x)
        assert score.mean_iou_restricted == pytest.approx(iou_by_loops(maps, data["y"]), abs=0.02)
        interval = score.mean_iou_restricted_interval
        assert interval.low <= score.mean_iou_restricted <= interval.high
    assert found.judged == np.isin(data["y"], WANTED).sum() and found.ignored == (data["y"] == 255).sum()
    assert from_json((tmp_path / "report.json").read_text()) == report
    written = (tmp_path / "report.html").read_text()
    assert "mean IoU on your classes" in written
    assert written.count("<figure>") == 4 * COUNT
    again = verify(place / "net.onnx", tmp_path / "model.onnx", data=place / "d.npz")
    assert isinstance(again.comparison, Segmentation) and again.comparison.compressed == found.compressed


@pytest.mark.parametrize(
    ("method", "epochs"), [("channels", 0), ("channels", 1), ("channels+hybrid", 0), ("channels+hybrid", 2)]
)
def test_channels_go_through_skips_and_transposed_convolutions(
    place: Path, tmp_path: Path, answers: Any, method: str, epochs: int
) -> None:
    """The skip's channels are read behind a Concat beside those that a transposed convolution writes."""
    budget = {"sparsity": None, "macs": 0.4, "round_channels": 4, "block": 4, "vector_rows": 4}
    report = compress(recipe(place, tmp_path, method=method, epochs=epochs, **budget))
    assert report.segmentation is not None and report.channels is not None
    assert report.macs.kept_ratio <= 0.4 + BUDGET_TOLERANCE  # blocks come in steps, to either side of the budget
    (found,) = answers(tmp_path / "model.onnx", np.zeros((2, 3, SIDE, SIDE), np.float32))
    assert found.shape == (2, OUTPUTS, SIDE, SIDE)
    proto = onnx.load(tmp_path / "model.onnx")
    shapes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    assert np.prod(shapes["up"]) < 32 * 32 * 4
    told = json.loads({entry.key: entry.value for entry in proto.metadata_props}["pkg.crisp_onnx.widths"])
    (node,) = [node for node in proto.graph.node if node.op_type == "ConvTranspose"]
    source = {tensor.name: list(tensor.dims) for tensor in onnx.load(place / "net.onnx").graph.initializer}
    assert told[node.name] == [source["up"], shapes["up"]]


def test_images_without_labels_are_learnt_by_the_models_own_answers(place: Path, tmp_path: Path) -> None:
    report = compress(recipe(place, tmp_path, data=place / "bare.npz"))
    assert report.segmentation is None and "no labels" in report.accuracy.reason
    assert report.sparsity.weights == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": None}, "must be given with --data"),
        ({"head": "slice"}, "--head slice is not possible"),
        ({"precision": "int8"}, "--precision int8 is for classification alone: .* Leave --precision out"),
        ({"bank": Path("b.safetensors")}, "--bank is not possible"),
        ({"classes": (1,)}, "two classes or more"),
        ({"task": "classification"}, "--task segmentation takes maps"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(
    place: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    asked = recipe(place, tmp_path, **options)
    with pytest.raises(CrispError, match=said):
        read_question(asked, load(asked.model), asked.data, asked.eval_data)


def test_check_says_the_same_of_the_task(place: Path) -> None:
    assert "--task segmentation" in check(place / "net.onnx").refusal
    assert not check(place / "net.onnx", task="segmentation").refusal
