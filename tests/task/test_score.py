"""The task in NumPy, and what a file records of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.data import Classes, Label, Labels
from crisp_onnx.task import Classification, read_stamp, stamped
from crisp_onnx.task.score import preferred, shares_of_wanted, wanted_scores
from crisp_onnx.task.stamp import CLASSES, COLUMNS, OUTPUT
from crisp_onnx.task.stamp import LABELS as STAMPED_LABELS

LABELS = Labels({3: Label("n00000001", ("dog",)), 5: Label("", ("cat", "big"), "cat, big")}, "labels.txt")


@given(st.permutations(range(5)), st.lists(st.sampled_from(range(5)), min_size=1, unique=True))
def test_the_order_of_the_columns_changes_nothing(columns: list[int], wanted: list[int]) -> None:
    scores = np.random.default_rng(0).normal(size=(20, 5))
    plain = preferred(scores, Classification(tuple(range(5)), tuple(wanted), "y", "y"))
    moved = preferred(scores[:, columns], Classification(tuple(columns), tuple(wanted), "y", "y"))
    np.testing.assert_array_equal(plain.all, scores.argmax(1))
    np.testing.assert_array_equal(plain.wanted, np.array(wanted)[scores[:, wanted].argmax(1)])
    np.testing.assert_array_equal(plain.all, moved.all)
    np.testing.assert_array_equal(plain.wanted, moved.wanted)


def test_a_head_cut_down_prefers_the_same_among_its_classes() -> None:
    scores = np.random.default_rng(1).normal(size=(20, 5))
    whole = Classification(tuple(range(5)), (4, 0, 2), "y", "y")
    found = preferred(scores[:, [4, 0, 2]].reshape(20, 3, 1, 1), whole.sliced())
    np.testing.assert_array_equal(found.all, preferred(scores, whole).wanted)
    np.testing.assert_array_equal(found.wanted, found.all)


@pytest.mark.parametrize("form", ["logits", "probabilities", "log-probabilities"])
def test_shares_are_those_of_a_head_that_was_cut_down(form: str) -> None:
    logits = np.random.default_rng(2).normal(size=(6, 5))

    def answered(z: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        shares = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return {"logits": z, "probabilities": shares, "log-probabilities": np.log(shares)}[form]

    task = Classification(tuple(range(5)), (3, 1), "y", "y", form=form)  # type: ignore[arg-type]
    np.testing.assert_allclose(shares_of_wanted(answered(logits), task), answered(logits[:, [3, 1]]))
    np.testing.assert_array_equal(wanted_scores(logits, task), logits[:, [3, 1]])


def test_a_stamp_comes_back() -> None:
    task = Classification((5, 3, 4), (3, 5), "probs", "z")
    found = read_stamp(
        {"other": "x", **stamped(task, Classes((3, 5), ("dog", "cat, big")), labels=LABELS, preprocess="mean=0.5")}
    )
    assert found is not None
    assert (found.output, found.columns, dict(found.classes)) == ("probs", (5, 3, 4), {3: "dog", 5: "cat, big"})
    assert list(found.classes) == [3, 5]
    assert found.preprocess == "mean=0.5"
    assert found.labels is not None
    assert found.labels.entries == LABELS.entries
    assert found.column_labels is not None
    assert found.column_labels.entries == {0: LABELS.entries[5], 1: LABELS.entries[3]}


@pytest.mark.parametrize(
    "damage",
    [
        {COLUMNS: "[1, 1]"},
        {COLUMNS: "[-1, 2]"},
        {COLUMNS: "nonsense"},
        {COLUMNS: "3"},
        {COLUMNS: "[[1]]"},
        {CLASSES: "[]"},
        {CLASSES: "{}"},
        {CLASSES: json.dumps({"7": "dog"})},
        {CLASSES: json.dumps({"x": "dog"})},
        {STAMPED_LABELS: "[1]"},
        {STAMPED_LABELS: json.dumps({"1": []})},
        {STAMPED_LABELS: json.dumps({"1": 7})},
    ],
)
def test_a_damaged_stamp_is_none(damage: dict[str, str]) -> None:
    sound = {OUTPUT: "y", COLUMNS: "[1, 2]", CLASSES: json.dumps({"1": "dog"})}
    assert read_stamp(sound) is not None
    assert read_stamp({**sound, **damage}) is None
    assert read_stamp({}) is None
