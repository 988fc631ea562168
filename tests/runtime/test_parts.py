"""A batch in parts: the same answers as at once, for every split, and a sentence for what has no batch."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from crisp_onnx.errors import CrispError
from crisp_onnx.runtime import run_in_parts

TWO_OUTPUTS = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[n,3] x, float[n,1] scale) => (float[n,3] scaled, float[n] total)
{
  scaled = Mul (x, scale)
  one = Constant <value_ints = [1]> ()
  total = ReduceSum <keepdims = 0> (scaled, one)
}
"""


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(parser.parse_model(TWO_OUTPUTS).SerializeToString(), providers=["CPUExecutionProvider"])


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 9), images=st.integers(1, 4), workers=st.integers(1, 4))
def test_parts_give_the_answers_of_the_whole_batch_in_its_order(
    session: ort.InferenceSession, batch: int, images: int, workers: int
) -> None:
    rng = np.random.default_rng(batch)
    feed = {"x": rng.random((batch, 3), np.float32), "scale": rng.random((batch, 1), np.float32)}
    whole = session.run(None, feed)
    parts = run_in_parts(session, feed, workers=workers, images=images)
    assert len(parts) == len(whole) == 2
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 1)), ((0, 3), (0, 1)), ((2, 3), ())])
def test_inputs_without_one_common_batch_are_refused(
    session: ort.InferenceSession, shapes: tuple[tuple[int, ...], ...]
) -> None:
    feed = {name: np.zeros(shape, np.float32) for name, shape in zip(("x", "scale"), shapes, strict=True)}
    with pytest.raises(CrispError, match="share one batch"):
        run_in_parts(session, feed)


def test_counts_below_one_are_refused(session: ort.InferenceSession) -> None:
    with pytest.raises(CrispError, match="1 or more"):
        run_in_parts(session, {"x": np.zeros((2, 3), np.float32)}, workers=0)


def test_a_batch_that_leaves_a_rest_for_a_model_of_fixed_batch_is_refused() -> None:
    fixed = ort.InferenceSession(
        parser.parse_model(TWO_OUTPUTS.replace("n,", "2,").replace("[n]", "[2]")).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    feed = {"x": np.ones((3, 3), np.float32), "scale": np.ones((3, 1), np.float32)}
    with pytest.raises(CrispError, match="takes 2 images at a time"):
        run_in_parts(fixed, feed, images=2)
    feed = {name: array[:2] for name, array in feed.items()}
    with pytest.raises(CrispError, match="takes 2 images at a time"):
        run_in_parts(fixed, feed, images=1)
    assert run_in_parts(fixed, feed, images=2)[1].tolist() == [3, 3]


@pytest.mark.parametrize("axes", ["<keepdims = 1> (x, zero)", "<keepdims = 0> (x)"])
def test_an_output_that_mixes_the_images_is_refused(axes: str) -> None:
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    mixed (float[n,3] x) => (float total) {{ zero = Constant <value_ints = [0]> () total = ReduceSum {axes} }}
    """
    mixed = ort.InferenceSession(parser.parse_model(text).SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(CrispError, match="output total"):
        run_in_parts(mixed, {"x": np.ones((4, 3), np.float32)}, images=2)
