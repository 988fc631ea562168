"""Fuzz every reader of foreign files: `make fuzz`, or `cd tests && python -m fuzz --mutations 100000 --only images`.

Models, images, archives, pickles, recipes, label files and hardware targets are changed and read. A refusal in a
sentence is right; what would be exit 1 of a command, a process that dies, and one that does not come back are faults.
They are listed by place, each with the command that shows it again, and the exit status is 1. The same seed gives the
same files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.targets import TARGETS
from fuzz.worker import HANGS

ROOT = Path(__file__).parents[2]
PER_PROCESS = 2_000
POLL_S = 0.5
STANDS_STILL = 10
"""Times `slow_s` by the clock after which a process that uses no processor time has stopped for good."""
LOAD_S = 600  # a busy machine takes its time to import everything


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.split("\n\n")[1])
    parser.add_argument("--mutations", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first mutation, to see a fault again")
    parser.add_argument("--only", choices=sorted(TARGETS), action="append", help="these targets alone; may be repeated")
    options = parser.parse_args()
    chosen = options.only or list(TARGETS)
    total = sum(TARGETS[name].share for name in chosen)
    faults = 0
    for name in chosen:
        count = max(1, round(options.mutations * TARGETS[name].share / total))
        began = time.time()
        found = list(_faults(name, options.seed, options.start, count))
        print(f"{name}: {count} mutations in {time.time() - began:.0f} s, {len(found)} faults")
        for place, alike in _by_place(found).items():
            first = alike[0]
            print(f"  {len(alike)} x {first['said']}\n      {place}")
            again = f"--only {name} --seed {options.seed} --start {first['number']} --mutations 1"
            print(f"      again: python -m fuzz {again}")
        faults += len(found)
        sys.stdout.flush()
    return 1 if faults else 0


def _faults(name: str, seed: int, start: int, count: int) -> Iterator[dict[str, Any]]:
    """Run processes until all numbers are done; one that dies or hangs is a fault, and the next begins behind it."""
    folder = ROOT / "build" / "fuzz" / name
    number, end = start, start + count
    while number < end:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        some = min(PER_PROCESS, end - number)
        words = [sys.executable, "-m", "fuzz.worker", name, *map(str, (seed, number, some)), str(folder)]
        with (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                words, cwd=ROOT / "tests", stdout=subprocess.DEVNULL, stderr=stderr, env=_environment()
            )
            end_of_it = _watched(process, folder, TARGETS[name].slow_s)
        lines = (folder / "faults.jsonl").read_text().splitlines() if (folder / "faults.jsonl").exists() else []
        yield from map(json.loads, lines)
        at = _at(folder)
        if end_of_it == "":
            number += some
            continue
        tail = (folder / "stderr").read_text(errors="replace").strip()[-300:]
        if at is None:
            raise SystemExit(f"{name} cannot be fuzzed: {end_of_it}. {tail}")
        yield {"number": at, "said": f"{end_of_it}. {tail}", "trace": end_of_it}
        number = at + 1


def _watched(process: subprocess.Popen[bytes], folder: Path, slow_s: float) -> str:
    """How the process ended; empty where all went well."""
    last, since = None, time.time()
    while (code := process.poll()) is None:
        time.sleep(POLL_S)
        at = _at(folder)
        if at != last:
            last, since = at, time.time()
        if time.time() - since > (LOAD_S if at is None else STANDS_STILL * slow_s):
            process.kill()
            process.wait()
            return f"did not come back in {time.time() - since:.0f} s"
    if code == -signal.SIGPROF:
        return f"did not come back in {HANGS * slow_s:.0f} s of processor time"
    return "" if code == 0 else f"the process died with {code}"


def _at(folder: Path) -> int | None:
    try:
        return int((folder / "at").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _by_place(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Faults that come from the same line of ours together."""
    places: dict[str, list[dict[str, Any]]] = {}
    for fault in found:
        lines = [line.strip() for line in fault["trace"].splitlines() if line.strip().startswith("File ")]
        ours = [line for line in lines if "/fuzz/" not in line]
        inside = [line for line in ours if "site-packages" not in line and "/lib/python" not in line]
        place = " < ".join(line.replace(str(ROOT) + "/", "") for line in (inside[-1:] + ours[-1:]))
        places.setdefault(place or fault["said"][:60], []).append(fault)
    return dict(sorted(places.items(), key=lambda item: -len(item[1])))


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    sys.exit(main())
