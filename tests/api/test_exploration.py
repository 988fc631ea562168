"""A sweep: what it tries, what it trains, that it goes on where it stopped, that two workers share it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_models import coloured_images, residual_classifier

from crisp_onnx.api import exploration
from crisp_onnx.api.exploration import Limits, explore
from crisp_onnx.api.study import Space, Study
from crisp_onnx.cli import cli
from crisp_onnx.errors import CrispError
from crisp_onnx.recipe import Recipe, make_recipe, read_recipe
from crisp_onnx.report.exploration import Choice, Point
from crisp_onnx.report.schema import Report
from crisp_onnx.saliency.bank import open_bank

pytest.importorskip("optuna")
SPACE = Space((0.5, 0.75, 0.875), ("2:4", "1:4"), (16,), (8,))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("sweep")
    pairs = coloured_images(12)
    np.savez(folder / "data.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs]))
    (folder / "cls.txt").write_text("0\n2\n4\n")
    model = residual_classifier(folder / "small.onnx")
    options = {"model": model, "classes": folder / "cls.txt", "data": folder / "data.npz", "preprocess": "unit"}
    return make_recipe({**options, "target": "portable", "epochs": 1})


def into(recipe: Recipe, folder: Path, **options: Any) -> Recipe:
    return recipe.model_copy(update={"output": folder, **options})


@pytest.fixture(scope="module")
def swept(asked: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A real sweep of two points, one of which is trained."""
    recipe = into(asked, tmp_path_factory.mktemp("out"))
    explore(recipe, space=SPACE, limits=Limits(30, 2, 1))
    return recipe


def test_every_point_has_a_recipe_that_makes_it_and_the_best_have_models(swept: Recipe) -> None:
    said = json.loads((swept.folder / "explore.json").read_text())
    assert sorted(one["epochs"] for one in said["points"]) == [0, 0, 1]
    best = {one["folder"] for one in said["best"]}
    for one in said["points"]:
        place = swept.folder / one["folder"]
        made = make_recipe(read_recipe(place / "recipe.yaml"))
        assert (made.sparsity, made.pattern, made.epochs) == (
            one["choice"]["sparsity"],
            one["choice"]["pattern"],
            one["epochs"],
        )
        report = json.loads((place / "report.json").read_text())
        assert report["macs"]["kept_ratio"] == one["macs_ratio"]
        assert report["accuracy"]["compressed"]["top1_restricted"] == one["accuracy"]
        assert any(note.startswith("Saliency comes from bank-") for note in report["notes"])
        assert (place / "model.onnx").is_file() == (one["folder"] in best)
    assert "<svg" in (swept.folder / "front.svg").read_text()


def test_the_same_call_goes_on_without_making_a_point_again(swept: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(recipe: Recipe) -> Report:
        raise AssertionError(f"{recipe.folder} was made again")

    monkeypatch.setattr(exploration, "compress", refused)
    found = explore(swept, space=SPACE, limits=Limits(30, 0, 1))
    assert len(found.points) == 3
    (swept.folder / "study.journal").unlink()  # what is left are the folders
    again = explore(swept, space=SPACE, limits=Limits(30, 2, 1))
    assert {point.folder for point in again.points} == {point.folder for point in found.points}


class MadeAgain(Exception):
    """A point is compressed; with its recipe."""


def made_again(recipe: Recipe) -> Report:
    raise MadeAgain(recipe)


def changed(source: Path, place: Path, step: int, turn: int = 0) -> Path:
    """Every so many of the rows in `source`, each under the label of the one `turn` rows before."""
    with np.load(source) as held:
        x, y = held["x"][::step], np.roll(held["y"][::step], turn)
    np.savez(place, x=x, y=y)
    return place


@pytest.mark.parametrize("which", ["data", "eval_data"])
def test_other_images_are_measured_anew(
    swept: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(exploration, "compress", made_again)
    assert isinstance(swept.data, Path)
    other = changed(swept.data, tmp_path / "other.npz", 1, turn=1)
    with pytest.raises(MadeAgain):
        explore(swept.model_copy(update={which: other}), space=SPACE, limits=Limits(30, 1, 0))


def test_images_that_changed_where_they_lie_are_summed_up_and_measured_anew(
    asked: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(asked.data, Path)
    data = changed(asked.data, tmp_path / "data.npz", 1)
    recipe = into(asked, tmp_path / "out", data=data)
    explore(recipe, space=SPACE, limits=Limits(30, 1, 0))
    changed(asked.data, data, 2)
    monkeypatch.setattr(exploration, "compress", made_again)
    with pytest.raises(MadeAgain) as raised:
        explore(recipe, space=SPACE, limits=Limits(30, 1, 0))
    again = raised.value.args[0]
    banks = {path: sum(open_bank(path).images.values()) for path in (tmp_path / "out").glob("bank-*")}
    assert len(banks) == 2
    assert banks[again.bank] < min(count for path, count in banks.items() if path != again.bank)


def test_saliency_of_a_network_that_is_fine_tuned_first_is_not_kept_for_all_points(
    asked: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "compress", made_again)
    with pytest.raises(MadeAgain) as raised:
        explore(into(asked, tmp_path, first_finetune=1), space=SPACE, limits=Limits(30, 1, 0))
    assert raised.value.args[0].bank is None


def test_an_interruption_says_how_to_go_on(asked: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(recipe: Recipe) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(exploration, "compress", stopped)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        explore(into(asked, tmp_path), space=SPACE)


def of(choice: Choice, epochs: int = 0) -> Point:
    share = 1 - choice.sparsity
    return Point(choice, epochs, share, 1.0, 10, share, 100, share, 1.0, share)


def study(folder: Path, who: str = "a", question: object = 1) -> Study:
    return Study(str(folder / "s.journal"), question, SPACE, seed=0, who=who)


def test_a_study_tries_every_choice_once_and_no_other(tmp_path: Path) -> None:
    one, seen = study(tmp_path), []
    while (choice := one.next()) is not None:
        seen.append(choice)
        one.tell(of(choice))
    assert sorted(map(str, seen)) == sorted(map(str, SPACE.choices))
    assert len(SPACE.choices) == 5  # 1:4 alone drops more than half
    assert seen[0] == Choice(0.75, "2:4", 16, 8)
    assert {point.choice for point in study(tmp_path).points} == set(seen)


@pytest.mark.parametrize("seed", range(3))
def test_a_study_goes_on_where_its_sampler_only_repeats_itself(tmp_path: Path, seed: int) -> None:
    space = Space((0.6, 0.7, 0.8, 0.9, 0.95), ("2:4",), (16, 32), (8,))
    one, seen = Study(str(tmp_path / "s.journal"), 1, space, seed=seed, who="a"), set()
    while (choice := one.next()) is not None:
        seen.add(choice)
        one.tell(of(choice))
    assert seen == set(space.choices)


def test_workers_share_the_choices_and_the_trainings(tmp_path: Path) -> None:
    one, other = study(tmp_path), study(tmp_path, "b")
    mine, yours = one.next(), other.next()
    assert mine is not None
    assert yours is not None
    assert mine != yours
    one.tell(of(mine))
    assert one.claim(mine)
    assert not other.claim(mine)
    assert study(tmp_path, "a").claim(mine)  # the worker itself came back: what it left is taken up
    assert study(tmp_path, question=2).points == ()


def test_what_cannot_be_made_is_not_tried_again(tmp_path: Path) -> None:
    one = study(tmp_path)
    choice = one.next()
    assert choice is not None
    one.refuse(choice)
    left = []
    while (other := one.next()) is not None:
        left.append(other)
        one.tell(of(other))
    assert choice not in left
    assert choice not in {point.choice for point in one.points}


@pytest.mark.parametrize("cut", [1, 20])
def test_a_journal_whose_last_line_is_torn_goes_on(tmp_path: Path, cut: int) -> None:
    one = study(tmp_path)
    for _ in range(2):
        choice = one.next()
        assert choice is not None
        one.tell(of(choice))
    journal = tmp_path / "s.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    again = study(tmp_path)
    assert len(again.points) >= 1
    while (choice := again.next()) is not None:
        again.tell(of(choice))
    assert journal.read_bytes().startswith(whole[: whole[:-1].rfind(b"\n") + 1])
    assert {point.choice for point in study(tmp_path).points} == {point.choice for point in again.points}


def test_a_damaged_journal_is_refused_with_what_to_delete(tmp_path: Path) -> None:
    study(tmp_path)
    journal = tmp_path / "s.journal"
    journal.write_bytes(b'{"op_code": \n' + journal.read_bytes())
    with pytest.raises(CrispError, match=r"s\.journal cannot be used: .*delete it, or name another one with --storage"):
        study(tmp_path)


@pytest.mark.parametrize(
    "told", [{"accuracy": "high"}, {"choice": {"sparsity": 0.5, "pattern": "../../x:4", "block": 16, "vector_rows": 8}}]
)
def test_what_others_put_into_the_storage_leads_nowhere(tmp_path: Path, told: dict[str, Any]) -> None:
    one = study(tmp_path)
    choice = one.next()
    assert choice is not None
    one.tell(of(choice))
    journal = tmp_path / "s.journal"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if "point" in line.get("user_attr", {}):
            line["user_attr"]["point"].update(told)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "choice" in told:
        assert study(tmp_path).points == ()
    else:
        with pytest.raises(CrispError, match="no sweep of crisp-onnx"):
            study(tmp_path).points  # noqa: B018


@pytest.mark.parametrize(
    ("space", "options", "limits", "said"),
    [
        (Space((0.5,), ("1:4",), (16,), (8,)), {}, Limits(), "nothing to choose from"),
        (Space((1.5,), ("2:4",), (16,), (8,)), {}, Limits(), "1.5 is out of range"),
        (Space((0.5,), ("5:4",), (16,), (8,)), {}, Limits(), "5:4"),
        (Space((0.5,), ("2:4",), (18,), (8,)), {}, Limits(), "18"),
        (SPACE, {"macs": 0.5}, Limits(), "Leave --macs out"),
        (SPACE, {}, Limits(minutes=0), "--minutes 0 leaves no time"),
        (SPACE, {"data": None}, Limits(), "needs labelled images"),
    ],
)
def test_what_makes_no_sweep_is_refused_before_the_first_point(
    asked: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Any, options: Any, limits: Any, said: str
) -> None:
    monkeypatch.setattr(exploration, "compress", lambda recipe: pytest.fail("a point was begun"))
    with pytest.raises(CrispError) as raised:
        explore(into(asked, tmp_path, **options), space=space, limits=limits)
    assert said in str(raised.value)


def test_the_command_refuses_lists_that_are_none() -> None:
    result = CliRunner().invoke(cli, ["explore", "m.onnx", "--classes", "c.txt", "--blocks", "16,x"])
    assert "--blocks 16,x is not a list such as 16,32" in str(result.exception)
