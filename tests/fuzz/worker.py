"""One process of the fuzzing: a run of mutations of one target, each number announced before it is read.

python -m fuzz.worker TARGET SEED START COUNT FOLDER writes `at` (the number in work) and `faults.jsonl` into FOLDER.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from fuzz.targets import TARGETS, fault_of, mutated

MEMORY_BYTES = 6 << 30
HANGS = 3
"""Times `slow_s` of its own processor time after which a process is ended."""


def run(name: str, seed: int, start: int, count: int, folder: Path) -> None:
    """Read mutations `start` to `start + count - 1`."""
    target = TARGETS[name]
    made = folder / "seeds"
    made.mkdir(parents=True, exist_ok=True)
    found = target.seeds(made)
    with (folder / "faults.jsonl").open("a") as faults, (folder / "at").open("w") as at:
        for number in range(start, start + count):
            at.seek(0)
            at.write(f"{number:>12} {time.time():.1f}")
            at.flush()
            place = folder / "work"
            shutil.rmtree(place, ignore_errors=True)
            file, content = mutated(target, found, f"{name}/{seed}/{number}")
            path = place / file
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            began = _processor_s()
            signal.setitimer(signal.ITIMER_PROF, HANGS * target.slow_s)
            fault = fault_of(target.read, path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            took = _processor_s() - began
            if fault is None and took <= target.slow_s:
                continue
            said = f"{type(fault).__name__}: {fault}" if fault is not None else f"took {took:.0f} s of processor time"
            where = "".join(traceback.format_exception(fault)) if fault is not None else ""
            json.dump({"number": number, "file": file, "said": said[:500], "trace": where[-6000:]}, faults)
            faults.write("\n")
            faults.flush()
            kept = folder.parent / "faults" / f"{name}-{seed}-{number}-{path.name}"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(content)


def _processor_s() -> float:
    """Of this process and the children that have ended: a busy machine's clock says nothing of a reader."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    run(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
