"""A run that is killed and taken up again ends with the file of the undisturbed run; another run's state is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api.checkpoint import Checkpoint, open_checkpoint
from crisp_onnx.errors import CrispError
from crisp_onnx.recover import State
from crisp_onnx.synthesis import Effort

STATISTICS, SIGHT = "crisp_onnx.api.criterion_statistics", "crisp_onnx.api.sight"
COMPRESS, LOOP = "crisp_onnx.api.compression", "crisp_onnx.recover.loop.Loop"


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("resume")
    pairs = coloured_images(24)
    np.savez(folder / "data.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs]))
    return Recipe(
        model=residual_classifier(folder / "small.onnx"), classes=(0, 2, 4), data=folder / "data.npz",
        preprocess="unit", target="portable", sparsity=0.8, epochs=4, seed=3,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is kept; what only tells of the finished model is left out."""
    monkeypatch.setattr(Checkpoint, "due", property(lambda self: True))
    monkeypatch.setattr(f"{COMPRESS}.measure_files", lambda *arguments, **keywords: (_ for _ in ()).throw(ValueError))
    monkeypatch.setattr("crisp_onnx.api.results.page", lambda *arguments: "")


def run(recipe: Recipe, output: Path, **options: Any) -> bytes:
    compress(recipe.model_copy(update={"output": output, **options}), resume=True)
    return (output / "model.onnx").read_bytes()


def killed(recipe: Recipe, output: Path, place: str, *, after: bool = False, call: int = 1, **options: Any) -> None:
    """A run that is gone in front of a call of what stands at `place`, or behind it."""
    owner, name = place.rsplit(".", 1)
    with pytest.MonkeyPatch.context() as patch:
        original = _found(owner, name)
        calls: Iterator[int] = iter(range(1, 10**6))

        def replaced(*arguments: Any, **keywords: Any) -> Any:
            fatal = next(calls) == call
            if fatal and not after:
                raise Killed
            result = original(*arguments, **keywords)
            if fatal:
                raise Killed
            return result

        patch.setattr(place, replaced)
        with pytest.raises(Killed):
            run(recipe, output, **options)


def _found(owner: str, name: str) -> Callable[..., Any]:
    from pkgutil import resolve_name

    return getattr(resolve_name(owner), name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("recovery", ["fixed", pytest.param("ramp", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_file_of_the_undisturbed_one(
    recipe: Recipe, tmp_path: Path, recovery: str
) -> None:
    whole = run(recipe, tmp_path / "whole", recovery=recovery)
    out = tmp_path / "out"
    for place, after, call in (
        (f"{STATISTICS}.collect", False, 1),
        ("crisp_onnx.reconstruct.least_squares._refit", False, 2),
        (f"{LOOP}._move", False, 1),
        (f"{LOOP}._move", True, 2),
        (f"{LOOP}._move", False, 3),
        (f"{LOOP}.finish", False, 1),
        (f"{COMPRESS}.prove", False, 1),
        (f"{COMPRESS}.deliver", False, 1),
    ):
        if recovery == "ramp" and "least_squares" in place:
            continue  # in the middle of training there
        killed(recipe, out, place, after=after, call=call, recovery=recovery)
        assert not out.exists()
    assert run(recipe, out, recovery=recovery) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def _newest_state(folder: Path) -> int:
    """When the state of a run was last kept."""
    times = [0]
    for file in folder.glob(".crisp-*/*/*.safetensors"):
        with suppress(FileNotFoundError):
            times.append(file.stat().st_mtime_ns)
    return max(times)


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_the_weights_as_they_are(recipe: Recipe, tmp_path: Path) -> None:
    """Of a process of its own, by the signal that nothing hears; the first run knows nothing of --resume."""
    words = [
        *(sys.executable, "-m", "crisp_onnx", "compress", str(recipe.model), "--data", str(recipe.data)),
        *("--preprocess", "unit", "--target", "portable", "--epochs", "90", "--recovery", "fixed", "-q"),
    ]
    (tmp_path / "cls.txt").write_text("0\n2\n4\n")
    words += ["--classes", str(tmp_path / "cls.txt")]
    subprocess.run([*words, "-o", str(tmp_path / "whole")], check=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    words[1:3] = ["-c", "import eager_checkpoints; from crisp_onnx.cli import main; main()"]
    chance, kills = random.Random(0), 0
    while kills < 10:
        known = _newest_state(tmp_path)
        process = subprocess.Popen(
            [*words, *(["--resume"] if kills else []), "-o", str(tmp_path / "out")], env=environment
        )
        while process.poll() is None and _newest_state(tmp_path) == known:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
    else:
        subprocess.run([*words, "--resume", "-o", str(tmp_path / "out")], env=environment, check=True)
    assert kills >= 5
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "whole" / "model.onnx").read_bytes()


@pytest.mark.parametrize(("widths", "call", "first"), [("saliency", 5, 4), ("gates", 5, 4), ("gates", 12, 3)])
def test_training_of_a_narrower_network_is_taken_up_too(
    recipe: Recipe, tmp_path: Path, widths: str, call: int, first: int
) -> None:
    """The search of gates has the first eight of sixteen steps, and the training of what they leave the others."""
    narrow = {"method": "channels", "sparsity": None, "macs": 0.6, "widths": widths}
    whole = run(recipe, tmp_path / "whole", **narrow)
    killed(recipe, tmp_path / "out", f"{LOOP}._move", call=call, **narrow)
    with pytest.MonkeyPatch.context() as patch:
        steps: list[int] = []
        original = _found(LOOP, "_move")
        patch.setattr(f"{LOOP}._move", lambda loop: (steps.append(loop.step), original(loop))[1])
        assert run(recipe, tmp_path / "out", **narrow) == whole
    assert steps[0] == first


def test_stages_that_were_finished_are_not_run_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    killed(recipe, out, f"{LOOP}._move", call=5)

    def again(*arguments: object, **keywords: object) -> None:
        raise AssertionError("once is enough")

    monkeypatch.setattr(f"{STATISTICS}.collect", again)
    monkeypatch.setattr("crisp_onnx.reconstruct.methods.METHODS", {"least-squares": again})
    steps: list[int] = []
    original = _found(LOOP, "_move")
    monkeypatch.setattr(f"{LOOP}._move", lambda loop: (steps.append(loop.step), original(loop))[1])
    run(recipe, out)
    assert steps[0] == 4
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "recipe.yaml", "report.html", "report.json"]


def test_synthesised_images_are_kept(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort(per_class=4, steps=2)
    monkeypatch.setattr(f"{SIGHT}.effort_for", lambda *arguments: effort)
    alone = recipe.model_copy(update={"data": None, "epochs": 0})
    whole = run(alone, tmp_path / "whole")
    killed(alone, tmp_path / "out", f"{STATISTICS}.collect")
    monkeypatch.setattr(f"{SIGHT}.synthesise", lambda *arguments, **keywords: pytest.fail("once is enough"))
    assert run(alone, tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, r"--seed was 3 there and is 4 here"),
        ({"patience": 3}, r"--patience was not given there and is 3 here"),
        ({"sparsity": 0.75}, r"--sparsity was 0.8 there and is 0.75 here"),
        ({"classes": (0, 2, 5)}, r"the list of classes was \[0, 2, 4\] there and is \[0, 2, 5\] here"),
        ({"preprocess": "signed"}, r"the preprocessing is another"),
    ],
)
def test_the_state_of_another_run_is_refused_and_stays(
    recipe: Recipe, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    killed(recipe, tmp_path / "out", f"{STATISTICS}.collect")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CrispError, match=f"The run that was stopped is not this one: {message}.*Leave --resume out"):
        run(recipe, tmp_path / "out", **change)
    assert sorted(tmp_path.rglob("*")) == before


def test_other_images_are_another_run(recipe: Recipe, tmp_path: Path) -> None:
    killed(recipe, tmp_path / "out", f"{STATISTICS}.collect")
    assert recipe.data is not None
    with np.load(recipe.data) as data:
        x, y = data["x"].copy(), data["y"]
    x[0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", x=x, y=y)
    with pytest.raises(CrispError, match="the set of images in --data is another"):
        run(recipe, tmp_path / "out", data=tmp_path / "other.npz")


def test_without_resume_what_a_killed_run_left_goes(recipe: Recipe, tmp_path: Path) -> None:
    killed(recipe, tmp_path / "out", f"{STATISTICS}.collect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{STATISTICS}.collect", lambda *arguments, **keywords: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            compress(recipe.model_copy(update={"output": tmp_path / "out", "seed": 4}))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_told_and_not_believed(tmp_path: Path) -> None:
    kept = open_checkpoint(tmp_path / "state", {"seed": 1}, resume=False)
    kept.put("start", State({}, {"a": 1}))
    taken = open_checkpoint(tmp_path / "state", {"seed": 1}, resume=True)
    assert taken.get("start").values == {"a": 1}  # type: ignore[union-attr]
    assert taken.get("training") is None
    (tmp_path / "state" / "start.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(CrispError, match=r"The start state of the run that was stopped cannot be read.*--resume"):
        taken.get("start")


def test_a_stage_that_comes_out_otherwise_is_told(tmp_path: Path) -> None:
    kept = open_checkpoint(tmp_path, {}, resume=False)
    kept.agree("weights before training", "abc")
    kept.agree("weights before training", "abc")
    with pytest.raises(CrispError, match="its weights before training come out differently"):
        kept.agree("weights before training", "abd")


def test_a_state_that_cannot_be_kept_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = open_checkpoint(tmp_path, {}, resume=False)
    kept.put("start", State({}, {"a": 1}))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crisp_onnx.api.checkpoint.save_file", full)
    kept.put("start", State({}, {"a": 2}))
    assert "cannot be kept (No space left on device)" in caplog.text
    assert kept.get("start").values == {"a": 1}  # type: ignore[union-attr]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".new"] == []


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_keeping_takes_a_fiftieth_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = [100.0]
    monkeypatch.setattr("crisp_onnx.api.checkpoint.time.monotonic", lambda: now[0])
    kept = open_checkpoint(tmp_path, {}, resume=False)

    def slow(*arguments: object) -> None:
        now[0] += seconds
        (tmp_path / "start.new").touch()

    monkeypatch.setattr("crisp_onnx.api.checkpoint.save_file", slow)
    kept.put("start", State())
    assert kept._next_s == now[0] + (50 if seconds else 20)


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_to_the_file_of_two_that_are_not(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "cls.txt").write_text("0\n2\n4\n")
    here = Path(__file__).parent
    words = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(here / "eager_compress.py"), "compress", str(recipe.model), "--data", str(recipe.data), "-q"),
        *("--preprocess", "unit", "--target", "portable", "--epochs", "12", "--classes", str(tmp_path / "cls.txt")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}

    def started(output: str, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words, *more, "-o", str(tmp_path / output)], env=environment, start_new_session=True)

    assert started("whole").wait() == 0
    for kill in range(3):
        known = _newest_state(tmp_path)
        process = started("out", *(["--resume"] if kill else []))
        while process.poll() is None and _newest_state(tmp_path) == known:
            time.sleep(0.01)
        time.sleep(kill)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out").exists()
    assert started("out", "--resume").wait() == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "whole" / "model.onnx").read_bytes()
