"""The task's losses in torch against their formulas written out in NumPy, and what a model's own answers suggest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crisp_onnx.task import Classification
from crisp_onnx.task.loss import imitation_loss, logits_of, preferred, truth_loss, wanted_logits

Floats = npt.NDArray[np.float64]


def task(
    columns: tuple[int, ...] = (0, 1, 2, 3), wanted: tuple[int, ...] = (3, 1), **options: object
) -> Classification:
    return Classification(columns, wanted, "y", "y", **options)  # type: ignore[arg-type]


def draw(rows: int = 5, columns: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (rows, columns)).astype(np.float32))


def log_softmax(logits: Floats) -> Floats:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


@given(st.permutations(range(4)), st.data())
def test_cross_entropy_is_over_the_wanted_columns_wherever_they_are(columns: list[int], data: st.DataObject) -> None:
    wanted = tuple(data.draw(st.lists(st.sampled_from(range(4)), min_size=2, unique=True)))
    labels = np.array(data.draw(st.lists(st.sampled_from(wanted), min_size=5, max_size=5)))
    logits = draw()
    own = logits.numpy().astype(float)[:, [columns.index(index) for index in wanted]]
    expected = -np.mean([log_softmax(own)[row, wanted.index(label)] for row, label in enumerate(labels)])
    found = truth_loss(logits, torch.from_numpy(labels), task(tuple(columns), wanted))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_smoothing_gives_every_wanted_class_a_share() -> None:
    logits, labels = draw(), torch.tensor([3, 1, 1, 3, 3])
    logs = log_softmax(logits.numpy().astype(float)[:, [3, 1]])
    target = np.where(np.array([[3, 1]]) == labels.numpy()[:, None], 0.95, 0.05)
    expected = -(target * logs).sum(1).mean()
    assert float(truth_loss(logits, labels, task(), smoothing=0.1)) == pytest.approx(expected, rel=1e-5)


def test_one_class_alone_competes_with_all_columns() -> None:
    logits = draw()
    expected = -log_softmax(logits.numpy().astype(float))[:, 2].mean()
    found = truth_loss(logits, torch.full((5,), 9), task(columns=(7, 8, 9, 4), wanted=(9,)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_classes_that_do_not_exclude_each_other_have_a_loss_each() -> None:
    logits, labels = draw(), np.array([3, 1, 1, 3, 3])
    shares = sigmoid(logits.numpy().astype(float)[:, [3, 1]])
    truth = np.array([[3, 1]]) == labels[:, None]
    expected = -np.log(np.where(truth, shares, 1 - shares)).mean()
    found = truth_loss(logits, torch.from_numpy(labels), task(exclusive=False))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_imitation_is_the_divergence_from_the_teacher(exclusive: bool) -> None:
    student, teacher = draw(seed=1), draw(seed=2)
    s, t = (logits.numpy().astype(float) / 3 for logits in (student, teacher))
    if exclusive:
        expected = 9 * (np.exp(log_softmax(t)) * (log_softmax(t) - log_softmax(s))).sum(1).mean()
    else:
        p, q = sigmoid(t), sigmoid(s)
        expected = 9 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1).mean()
    found = imitation_loss(student, teacher, task(exclusive=exclusive), temperature=3)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(imitation_loss(teacher, teacher, task(exclusive=exclusive), temperature=3)) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize(
    ("form", "exclusive", "share"),
    [
        ("probabilities", True, lambda z: z.softmax(1)),
        ("log-probabilities", True, lambda z: z.log_softmax(1)),
        ("probabilities", False, torch.sigmoid),
        ("log-probabilities", False, torch.nn.functional.logsigmoid),
    ],
)
def test_logits_come_back_from_shares_but_for_a_constant(form, exclusive, share) -> None:  # type: ignore[no-untyped-def]
    logits = draw()
    found = logits_of(share(logits).reshape(5, 4, 1, 1), task(logits_form=form, exclusive=exclusive))
    if exclusive:
        found, logits = found - found.mean(1, keepdim=True), logits - logits.mean(1, keepdim=True)
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-3)


def test_shares_of_nought_and_one_stay_finite() -> None:
    found = logits_of(torch.tensor([[0.0, 1.0]]), task((0, 1), (0,), logits_form="probabilities", exclusive=False))
    assert torch.isfinite(found).all()


def test_the_preferred_class_is_one_of_the_wanted_by_its_number_in_the_source() -> None:
    logits = torch.tensor([[9.0, 0.0, 1.0, 2.0], [0.0, 5.0, 1.0, 2.0]])
    cut = task(columns=(40, 30, 20, 10), wanted=(10, 30))
    assert preferred(logits, cut).tolist() == [10, 30]
    assert wanted_logits(logits, cut).tolist() == [[2.0, 0.0], [2.0, 5.0]]
