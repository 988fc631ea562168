"""A file whose batch is fixed at one may answer without an axis for the images: (classes,)."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from crisp_onnx.api.acceptance import accept
from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.slicing import check_slicing, slice_head
from crisp_onnx.bridge.batch import usable_batch
from crisp_onnx.task import task_of
from crisp_onnx.task.loss import logits_of
from crisp_onnx.task.score import preferred, wanted_scores

ENDS = {
    "Squeeze": "<int64[1] a = {0}> { %s y = Squeeze(l, a) }",
    "Squeeze without axes": "{ %s y = Squeeze(l) }",
    "Reshape to -1": "<int64[1] a = {-1}> { %s y = Reshape(l, a) }",
    "Reshape to 6": "<int64[1] a = {6}> { %s y = Reshape(l, a) }",
    "Softmax before": "<int64[1] a = {0}> { %s p = Softmax(l) y = Squeeze(p, a) }",
    "Softmax behind": "<int64[1] a = {-1}> { %s r = Reshape(l, a) y = Softmax<axis=0>(r) }",
}
BODY = "f = Conv(x, w) g = Relu(f) h = Conv(g, v) i = GlobalAveragePool(h) j = Flatten(i) l = Gemm(j, u)"


@pytest.fixture(params=ENDS)
def model(request, model_of):
    head = "(float[1,3,8,8] x) => (float[6] y)"
    weights = "float[16,3,1,1] w, float[32,16,1,1] v, float[32,6] u"
    end = ENDS[request.param]
    end = end.replace("<int64", f"<{weights}, int64", 1) if "<int64" in end else f"<{weights}> {end}"
    return model_of(f"{head} {end % BODY}")


def test_torch_and_the_file_prefer_the_same_classes(model, answers) -> None:
    found = accept(prepare(model))
    task = task_of(found.prepared.head, (4, 1))
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    theirs = answers(model, image)[0]
    assert theirs.shape == (6,)
    with torch.no_grad():
        ours = logits_of(found.module(torch.from_numpy(image)), task).numpy()
    assert ours.shape == (1, 6)
    assert ours.argmax(1) == preferred(theirs, task).all == theirs.argmax()
    np.testing.assert_array_equal(wanted_scores(theirs, task), theirs[None, [4, 1]])


def test_images_whose_answers_would_run_together_are_taken_one_at_a_time(model) -> None:
    found = accept(prepare(model))
    logits = found.module(torch.zeros(1, 3, 8, 8))
    if logits.ndim == 1:
        assert usable_batch(found.module, model.input, 32, fixed=1) == 1


def test_the_head_is_cut_to_the_classes(model, answers) -> None:
    prepared = accept(prepare(model)).prepared
    task = task_of(prepared.head, (4, 1))
    check_slicing(prepared, task)
    graph = prepared.model.graph()
    slice_head(graph, prepared, task)
    cut = prepared.model.with_graph(graph)
    session = ort.InferenceSession(cut.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    (found,) = session.run(None, {"x": image})
    whole = answers(model, image)[0][[4, 1]]
    expected = whole if task.form == "logits" else whole / whole.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
