"""What the kernels keep beside the runtime's own copy of the tensors: places at one byte each, and offsets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hybrid_layer import model_of, random_layer

SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from crisp_onnx.runtime import session

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

feed = {"X": np.ones((1, 2048, 1, 1), np.float32)}
session(sys.argv[1], threads=1).run(None, feed)
before = resident_bytes()
opened = session(sys.argv[2], threads=1)
opened.run(None, feed)
print(resident_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("vector_rows", [1, 8])
def test_a_session_holds_at_most_a_copy_of_the_tensors_and_six_tenths(
    tmp_path: Path, library: Path, vector_rows: int
) -> None:
    rng = np.random.default_rng(0)
    small = random_layer(rng, (16, 2048, 1, 1), vector_rows=vector_rows)
    large = random_layer(rng, (8192, 2048, 1, 1), vector_rows=vector_rows, kept=64)
    for name, layer in (("small", small), ("large", large)):
        onnx.save(model_of(layer), tmp_path / name, save_as_external_data=True, location=f"{name}.data")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "small"), str(tmp_path / "large")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    tensors = sum(array.nbytes for array in large.tensors.values())
    assert tensors > 16 << 20
    assert grown <= 1.6 * tensors
