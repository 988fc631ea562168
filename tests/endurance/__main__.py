"""Kill `compress` at any moment, and start several at once: `cd tests && python -m endurance kills --count 200`.

Every run has a seed of its own. After each kill the output folder must hold one whole run, old or new, that opens, runs
and recounts; two files of different runs, a missing file or weights of another model are faults. A quarter of the
kills are at random moments of a run, the others before or after any step of its end that changes the file system.
`python -m endurance writers --count 10` starts two and four processes into one folder: each wins whole, or says that
another run is writing. The exit status is 1 where there is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from endurance.results import left_over, what_stands
from small_models import coloured_images, residual_classifier

STEPS = ("replace", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "chmod")
WITH_WEIGHTS_BESIDE = "import crisp_onnx.model.write as write; write.EXTERNAL_OVER_BYTES = 2048; "


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m endurance", description=__doc__.split("\n\n")[1])
    parser.add_argument("what", choices=("kills", "writers"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crisp-endurance-") as name:
        words = _files(Path(name))
        counts = {"kills": _kills, "writers": _writers}[options.what](Path(name), words, options.count, options.seed)
    for said, count in sorted(counts.items()):
        print(f"{count:>6} {said}")
    return 1 if any(said.startswith("FAULT") for said in counts) else 0


def _files(folder: Path) -> list[str]:
    """A small model and its images; the command that compresses it."""
    pairs = coloured_images(12)
    np.savez(folder / "data.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs]))
    (folder / "cls.txt").write_text("0\n2\n4\n")
    model = residual_classifier(folder / "small.onnx")
    return [
        *("compress", str(model), "--classes", str(folder / "cls.txt"), "--data", str(folder / "data.npz")),
        *("--epochs", "0", "--preprocess", "unit", "--target", "portable", "-q"),
    ]


def _kills(folder: Path, words: list[str], count: int, seed: int) -> Counter[str]:
    chance, out, counts = random.Random(seed), folder / "parent" / "out", Counter[str]()
    finished = {number: folder / f"finished{number}" for number in (1, 2)}
    began = time.time()
    for number, place in finished.items():
        _ended(_forked(lambda n=number, place=place: _run(words, place, n)))
    lasts = (time.time() - began) / len(finished)
    shutil.copytree(finished[1], out)
    _ended(_forked(lambda: _switch(finished[2], out, steps_file=folder / "steps")))
    steps, stands = int((folder / "steps").read_text()), _asked(lambda: what_stands(out), folder / "found")
    print(f"a run takes {lasts:.1f} s, its switch {steps} steps; {stands} stands", flush=True)
    for number in range(100, count + 100):
        if chance.random() < 0.1:  # the first run into a folder is another case
            shutil.rmtree(out, ignore_errors=True)
            stands = "nothing"
        if number % 4:
            coming, at = 2 if stands == 1 else 1, chance.randrange(2 * steps)
            child = _forked(lambda n=coming, at=at: _switch(finished[n], out, die_at=at))
            kind = "at a step of the switch"
        else:
            coming = number
            child = _forked(lambda n=number: _run(words, out, n))
            time.sleep(chance.uniform(0, 1.05 * lasts))
            os.kill(child, signal.SIGKILL)
            kind = "at a random moment"
        killed = _ended(child) == -signal.SIGKILL
        found = _asked(lambda: what_stands(out), folder / "found")
        if found not in (stands, coming):
            counts[f"FAULT {kind}: {found} after run {coming} over {stands}"] += 1
        else:
            counts[f"{'killed' if killed else 'ended'} {kind}: {'new' if found == coming else 'old'} result"] += 1
        stands = found
        if number % 10 == 0:  # and the next run clears away what was left
            _ended(_forked(lambda: _switch(finished[1], out)))
            stands = _asked(lambda: what_stands(out), folder / "found")
            left = left_over(out)
            counts["cleared by the next run" if stands == 1 and not left else f"FAULT left over: {left}"] += 1
            print(f"{number - 99} kills: {dict(counts)}", flush=True)
    return counts


def _writers(folder: Path, words: list[str], count: int, seed: int) -> Counter[str]:
    counts, out = Counter[str](), folder / "parent" / "out"
    for number in range(count):
        several = 2 if number % 2 else 4
        if number % 4 < 2:
            shutil.rmtree(out, ignore_errors=True)
        code = f"{WITH_WEIGHTS_BESIDE}from crisp_onnx.__main__ import main; main()"
        seeds = [seed + 10 * number + place + 1 for place in range(several)]
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, *words, "--seed", str(own), "-o", str(out)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for own in seeds
        ]  # fmt: skip
        said = [process.communicate()[1] for process in started]
        codes = [process.returncode for process in started]
        winners = [own for own, code in zip(seeds, codes, strict=True) if code == 0]
        told = all("Another run is writing" in text for text, code in zip(said, codes, strict=True) if code == 2)
        found = _asked(lambda: what_stands(out), folder / "found")
        sound = winners and found in winners and told and set(codes) <= {0, 2} and not left_over(out)
        outcome = f"{several} at once: {len(winners)} written, {codes.count(2)} told of another run"
        counts[outcome if sound else f"FAULT {several} at once: exits {codes}, {found} of {winners}, {said}"] += 1
    return counts


def _run(words: list[str], out: Path, seed: int) -> None:
    """One command in this process."""
    import crisp_onnx.model.write
    from crisp_onnx.cli import main as command

    crisp_onnx.model.write.EXTERNAL_OVER_BYTES = 2048
    density = ("--sparsity", "0.75" if seed % 2 else "0.6")
    sys.argv = ["crisp-onnx", *words, *density, "--seed", str(seed), "-o", str(out)]
    command()


def _switch(finished: Path, out: Path, *, die_at: int | None = None, steps_file: Path | None = None) -> None:
    """The end of a run, with the files of a finished one. It dies before or after a step in the file system."""
    from crisp_onnx.api.results import _put_in_place
    from crisp_onnx.api.workshop import workshop

    done = 0

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            if die_at == 2 * done:
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*arguments, **options)
            if die_at == 2 * done + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return result

        return taken

    with workshop(out) as bench:
        shutil.copytree(finished, bench, dirs_exist_ok=True)
        for name in STEPS:
            setattr(os, name, watched(getattr(os, name)))
        _put_in_place(bench, out)
        if steps_file is not None:
            steps_file.write_text(str(done))


def _forked(work: Callable[[], None]) -> int:
    """Do `work` in a child that has everything imported already; its process id."""
    import crisp_onnx.api  # noqa: F401

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _asked(question: Callable[[], int | str], file: Path) -> int | str:
    """The answer, found out in a child: whoever has run a model cannot fork well."""

    def answer() -> None:
        try:
            file.write_text(json.dumps(question()))
        except Exception as error:
            file.write_text(json.dumps(f"{type(error).__name__}: {error}"))

    _ended(_forked(answer))
    found: int | str = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
