"""Every benchmark at least starts: what it takes from the package is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.accuracy.public_layout import scrambled

FOLDER = Path(__file__).parents[1] / "benchmarks"
APART = ("peers/worker.py", "torch_pruning_coverage.py")  # run in the environments of others


def test_every_benchmark_finds_what_it_imports() -> None:
    scripts = [path.relative_to(FOLDER) for path in sorted(FOLDER.rglob("*.py")) if path.name != "__init__.py"]
    names = [".".join(path.with_suffix("").parts) for path in scripts if path.as_posix() not in APART]
    assert len(names) > 20
    # Some are run as scripts of the folder and some as modules of the package, so that both are on the path.
    code = (
        "import importlib, sys\nsys.path[:0] = sys.argv[1:3]\nfor name in sys.argv[3:]: importlib.import_module(name)"
    )
    command = [sys.executable, "-c", code, str(FOLDER.parent), str(FOLDER), *(name for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_codes_layout_judges_a_block_by_the_one_that_a_transposed_reading_meets() -> None:
    scores = np.random.default_rng(0).random((4, 9))
    found = scrambled(scores)
    for row in range(4):
        for column in range(9):
            number = row * 9 + column
            assert found[row, column] == scores[number % 4, number // 4]
