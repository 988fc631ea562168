"""--speedup: how much must go is found by measuring, what cannot be is refused early, and the end is measured again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api import compression, narrow, speedup, width_budget
from crisp_onnx.api.speedup import LEAD, share_for, share_for_both
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan
from crisp_onnx.model import Model, save
from crisp_onnx.report.schema import Report
from crisp_onnx.runtime.latency import Timing, measure_files


@pytest.mark.parametrize(("asked", "share"), [(1.5, 2 / 3), (3, 1 / 3), (9, 1 / 9)])
def test_the_largest_share_that_is_fast_enough_is_found(asked: float, share: float) -> None:
    tried = []

    def gain(left: float) -> float:
        tried.append(left)
        return 1 / left

    found = share_for(asked, gain, 0.05, 1.0, name="--speedup")
    assert 0.95 * share <= found <= share
    assert len(tried) <= 10


def test_what_the_densest_form_meets_is_left_as_dense() -> None:
    assert share_for(1.2, lambda left: 1 / left, 0.05, 0.5, name="--speedup") == 0.5


def test_the_whole_tolerance_is_left_to_the_end() -> None:
    assert share_for(1.5, lambda left: 1 / left, 0.05, 1.0, name="--speedup", lead=LEAD) <= 1 / (1.5 * LEAD)


def test_a_share_that_was_lucky_once_is_left_for_a_smaller_one() -> None:
    seen: set[float] = set()

    def gain(left: float) -> float:
        """A tenth more where it is asked for the first time."""
        lucky = 1.0 if left in seen else 1.1
        seen.add(left)
        return lucky / left

    assert 0.9 / 1.5 < share_for(1.5, gain, 0.05, 1.0, name="--speedup") <= 1 / 1.5 * 1.02


@pytest.mark.parametrize(("zeros_gain", "share"), [(3.0, 0.63), (1.05, 0.45), (1.2, 0.55)])
def test_channels_give_what_zeros_cannot(zeros_gain: float, share: float) -> None:
    """Of 2.25, both are to be 1.5 times as fast; where zeros alone gain less, channels do more."""
    found = share_for_both(2.25, lambda left: 1 / left, lambda left: zeros_gain / left, 0.2)
    assert found == pytest.approx(share, rel=0.08)
    assert zeros_gain / found >= 2.25


def test_a_speed_beyond_channels_and_zeros_is_refused_in_the_words_of_the_user() -> None:
    with pytest.raises(CrispError, match=r"^--speedup 9 cannot be met: .* it is 4\.00"):
        share_for_both(9, lambda left: 1 / left, lambda left: 2 / left, 0.5)


def test_more_than_the_least_gains_is_refused_with_what_it_gains() -> None:
    with pytest.raises(CrispError, match=r"--speedup 30 cannot be met: .* it is 20\.00"):
        share_for(30, lambda left: 1 / left, 0.05, 1.0, name="--speedup")
    assert share_for(20.5, lambda left: 1 / left, 0.05, 1.0, name="--speedup", tolerance=0.05) == 0.05


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_the_end: float, most: float = np.inf, **options: object
) -> Report:
    """A run on a host where a model is as fast as it has fewer stored bytes, and never more than `most` times."""
    whole = residual_classifier(folder / "small.onnx").stat().st_size

    def by_bytes(asked: object, model: Model, place: Path) -> float:
        return min(most, whole / sum(len(tensor.raw_data) for tensor in model.proto.graph.initializer))

    def told(*args: object, **named: object) -> Timing:
        timing = measure_files(*args, **{**named, "budget_s": 0.05})  # type: ignore[arg-type]
        return replace(timing, ratios=(timing.ratios[0], replace(timing.ratios[1], median=at_the_end)))

    for module in (speedup, width_budget):
        monkeypatch.setattr(module, "measured", by_bytes)
    monkeypatch.setattr(compression, "measure_files", told)
    recipe = Recipe(
        model=folder / "small.onnx", classes=(0, 1, 2), preprocess="unit", output=folder / "out", epochs=0,
        reconstruct="none", reorder=False, target="portable", **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return compress(recipe, data=coloured_images(per_class=4))


@pytest.mark.parametrize("method", ["hybrid", "channels", "channels+hybrid"])
def test_every_method_makes_the_model_as_fast_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    report = run(tmp_path, monkeypatch, 2.9, method=method, speedup=3.0)
    (budget,) = report.budgets
    assert (budget.name, budget.asked, budget.reached, budget.met) == ("speedup", 3.0, 2.9, True)
    stored = report.file.bytes_dense / report.file.bytes_formula
    assert 3.0 <= stored <= (3.7 if method == "hybrid" else 6.0)
    assert "speedup: 3.0" in (tmp_path / "out" / "recipe.yaml").read_text()


LATE_LAYERS_HAVE_THE_WEIGHTS = """
(float[N,3,16,16] x) => (float[N,3] y)
<float[16,3,3,3] stem, float[16,16,3,3] early, float[16] e, float[96,16,3,3] late, float[96] l, float[96,96,3,3] last,
 float[96] m, float[3,96] head>
{
  c = Conv<pads=[1,1,1,1]>(x, stem) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, early, e) q = Relu(d)
  p = MaxPool<kernel_shape=[4,4], strides=[4,4]>(q) f = Conv<pads=[1,1,1,1]>(p, late, l) s = Relu(f)
  k = Conv<pads=[1,1,1,1]>(s, last, m) t = Relu(k) g = GlobalAveragePool(t) h = Flatten(g)
  y = Gemm<transB=1>(h, head)
}
"""


@pytest.mark.parametrize("allocation", ["error", "saliency"])
def test_the_model_is_as_fast_as_asked_under_the_masks_that_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_of: Callable[..., Model], allocation: str
) -> None:
    """On a host where time goes by MACs; a rehearsal knows nothing of the errors and saliency by which layers keep."""

    def by_macs(prepared: object, plan: Plan, folder: Path) -> float:
        return (plan.dense_macs / plan.kept_macs) ** 0.9

    monkeypatch.setattr(speedup, "written_form", lambda recipe, model, plan, *, size: plan)
    monkeypatch.setattr(speedup, "measured", by_macs)
    save(model_of(LATE_LAYERS_HAVE_THE_WEIGHTS), tmp_path / "late.onnx")
    recipe = Recipe(
        model=tmp_path / "late.onnx", classes=(0, 1, 2), preprocess="unit", output=tmp_path / "out", epochs=0,
        target="portable", block=8, speedup=2.5, allocation=allocation,
    )  # fmt: skip
    images = [(np.pad(image, ((2, 2), (2, 2), (0, 0))), label) for image, label in coloured_images(per_class=12)]
    report = compress(recipe, data=[pair for pair in images if pair[1] in recipe.classes])
    assert LEAD * 2.5 * 0.98 < (1 / report.macs.kept_ratio) ** 0.9 < LEAD * 2.5 * 1.06


def test_a_speed_that_the_end_does_not_show_is_a_missed_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(tmp_path, monkeypatch, 1.8, method="channels", speedup=2.0)
    assert not report.budgets[0].met
    told = "The finished model is 1.80x as fast, and --speedup 2 was asked for. More channels are possible: "
    assert any(note.startswith(told) and "--speedup 2.2" in note for note in report.notes)


def test_where_no_more_channels_can_go_a_missed_speed_offers_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(tmp_path, monkeypatch, 1.8, most=2.0, method="channels", speedup=2.0)
    assert not report.budgets[0].met
    (told,) = [note for note in report.notes if note.startswith("The finished model is 1.80x as fast")]
    assert "No more channels can go" in told and "2.2" not in told


@pytest.mark.parametrize(("method", "block"), [("channels", 16), ("channels+hybrid", 16), ("channels+hybrid", 8)])
def test_a_speed_beyond_reach_is_refused_before_images_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, block: int
) -> None:
    def never(*_: object) -> None:
        pytest.fail("images were made first")

    monkeypatch.setattr(narrow, "see", never)
    monkeypatch.setattr(width_budget, "measured", lambda *_: 4.0)
    recipe = Recipe(
        model=residual_classifier(tmp_path / "small.onnx"), classes=(0, 1), preprocess="unit", method=method,
        speedup=5.0, block=block, target="portable", output=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(CrispError, match=r"--speedup 5 cannot be met: .* it is 4\.00"):
        compress(recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speedup": 500.0}, "cannot be met"),
        ({"speedup": 2.0, "emit": "dense"}, "are no faster"),
        ({"speedup": 2.0, "target": "x86_avx2"}, "measured on this host"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], words: str
) -> None:
    model = residual_classifier(tmp_path / "small.onnx")
    monkeypatch.setattr(speedup, "measured", lambda *_: 2.0)
    given = {"target": "portable", **options}
    recipe = Recipe(model=model, classes=(0, 1), preprocess="unit", output=tmp_path / "out", **given)  # type: ignore[arg-type]
    with pytest.raises(CrispError, match=words):
        compress(recipe, data=coloured_images(per_class=4))
    assert not (tmp_path / "out").exists()
