"""What int8 loses: counted, and by how far probabilities move, which few images suffice for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.data import Images
from crisp_onnx.data.values import AsIs, ValueStore
from crisp_onnx.model import Model
from crisp_onnx.quantize import MOST_POINTS
from crisp_onnx.quantize.judge import Judge
from crisp_onnx.task import Classification

FEATURES, CLASSES = 24, 4
NET = f"""(float[N,{FEATURES}] x) => (float[N,{CLASSES}] y) <float[{FEATURES},{CLASSES}] w>
  {{ [head] t = MatMul(x, w) y = Identity(t) }}"""
SHARES = NET.replace("Identity(t)", "Softmax(t)")
EVERY = tuple(range(CLASSES))


def task_of(form: str = "logits", wanted: tuple[int, ...] = EVERY) -> Classification:
    return Classification(EVERY, wanted, "y", "t", form=form)  # type: ignore[arg-type]


def images_of(rows: np.ndarray, labels: np.ndarray | None) -> Images:
    return Images(ValueStore(rows, "rows"), np.arange(len(rows)), labels, AsIs((FEATURES,), rows.dtype, (1, 1)), "rows")


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight, rows, and labels that its answers are right for as often as they say."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((FEATURES, CLASSES)).astype(np.float32)
    rows = rng.standard_normal((4000, FEATURES)).astype(np.float32)
    scores = rows @ weight
    return weight, rows, (scores + rng.gumbel(size=scores.shape)).argmax(1)


def test_few_images_hide_a_loss_from_counts_and_not_from_probabilities(
    world: tuple[np.ndarray, np.ndarray, np.ndarray], model_of: Callable[..., Model]
) -> None:
    weight, rows, labels = world
    noise = np.random.default_rng(1).standard_normal(weight.shape).astype(np.float32)
    model, noisy = model_of(NET, w=weight), model_of(NET, w=weight + 0.2 * noise)
    whole = Judge(model, images_of(rows, labels), task_of()).loss(noisy)
    assert 2 < whole.points < 3 and 1.5 < whole.expected < 2.5
    parts = [
        Judge(model, images_of(rows[some], labels[some]), task_of()).loss(noisy)
        for some in np.arange(len(rows)).reshape(-1, 40)[:20]
    ]
    blind = [part for part in parts if part.points <= 0]
    assert len(blind) >= 5
    assert all(part.lost > MOST_POINTS for part in blind)
    nearly = model_of(NET, w=weight + 0.02 * noise)
    assert Judge(model, images_of(rows, labels), task_of()).loss(nearly).expected < 0.1


@pytest.mark.parametrize(
    ("form", "wanted", "moved"),
    [
        # softmax of (2, 0, 0, 0) * log 2 is (4, 1, 1, 1) / 7, and of (0, 2, 0, 0) * log 2 (1, 4, 1, 1) / 7
        ("logits", EVERY, 100 * 9 / 49),
        ("probabilities", EVERY, 100 * 9 / 49),
        ("logits", (1, 0), 100 * 9 / 25),  # (1, 4) / 5 becomes (4, 1) / 5
        ("probabilities", (1, 0), 100 * 9 / 25),
        ("logits", (3, 2), 0.0),
        ("logits", (0,), 100 * 9 / 49),  # a single class is judged among all
    ],
)
def test_what_is_expected_is_half_the_squared_distance_between_the_probabilities(
    form: str, wanted: tuple[int, ...], moved: float, model_of: Callable[..., Model]
) -> None:
    before, after = (np.zeros((FEATURES, CLASSES), np.float32) for _ in range(2))
    before[0, 0] = after[0, 1] = 2 * np.log(2)
    rows = np.zeros((3, FEATURES), np.float32)
    rows[:, 0] = 1
    text = SHARES if form == "probabilities" else NET
    model, other = model_of(text, w=before), model_of(text, w=after)
    for labels in (None, np.zeros(3, np.int64)):
        loss = Judge(model, images_of(rows, labels), task_of(form, wanted)).loss(other)
        assert loss.expected == pytest.approx(moved, rel=1e-5, abs=1e-9)
        assert loss.spread == pytest.approx(0, abs=1e-5)


def test_a_model_whose_answers_are_no_numbers_loses_everything(
    world: tuple[np.ndarray, np.ndarray, np.ndarray], model_of: Callable[..., Model]
) -> None:
    weight, rows, labels = world
    broken = model_of(NET, w=np.full_like(weight, np.nan))
    found = Judge(model_of(NET, w=weight), images_of(rows[:8], labels[:8]), task_of()).loss(broken)
    assert found.lost == 100 and found.rank > (99.0, 0.0)
