"""What the kernels keep beside the runtime's own copy of the tensors: places at one byte each, and offsets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hybrid_layer import model_of, random_layer

from crisp_onnx.format.pattern import Pattern
from crisp_onnx.runtime.layer_case import LayerCase, dense_and_hybrid

SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from crisp_onnx.runtime import session

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def run(path, shape):
    opened = session(path, threads=1)
    opened.run(None, {opened.get_inputs()[0].name: np.ones([int(n) for n in shape.split(",")], np.float32)})
    return opened

run(*sys.argv[1:3])
before = resident_bytes()
opened = run(*sys.argv[3:5])
print(resident_bytes() - before)
"""
IN_PROC = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")


@IN_PROC
@pytest.mark.parametrize("vector_rows", [1, 8])
def test_a_session_holds_at_most_a_copy_of_the_tensors_and_six_tenths(
    tmp_path: Path, library: Path, vector_rows: int
) -> None:
    rng = np.random.default_rng(0)
    small = random_layer(rng, (16, 2048, 1, 1), vector_rows=vector_rows)
    large = random_layer(rng, (8192, 2048, 1, 1), vector_rows=vector_rows, kept=64)
    for name, layer in (("small", small), ("large", large)):
        onnx.save(model_of(layer), tmp_path / name, save_as_external_data=True, location=f"{name}.data")
    grown = grown_bytes(tmp_path / "small", "1,2048,1,1", tmp_path / "large", "1,2048,1,1")
    tensors = sum(array.nbytes for array in large.tensors.values())
    assert tensors > 16 << 20
    assert grown <= 1.6 * tensors


@IN_PROC
def test_a_session_of_an_eighth_of_the_weights_takes_at_most_a_third_of_the_dense_ones_memory(
    tmp_path: Path, library: Path
) -> None:
    pattern = Pattern(2, 4, 16, 8)
    small = LayerCase((16, 2048, 1, 1), (1, 2048, 1, 1), pattern, 1)
    large = LayerCase((1024, 1024, 3, 3), (1, 1024, 7, 7), pattern, 144, pads=(1, 1, 1, 1))  # a quarter of the blocks
    grown = {}
    for form, before, model in zip(("dense", "hybrid"), dense_and_hybrid(small), dense_and_hybrid(large), strict=True):
        for name, content in (("small", before), ("large", model)):
            path = tmp_path / f"{form}_{name}"
            onnx.save(onnx.load_from_string(content), path, save_as_external_data=True, location=f"{path.name}.data")
        grown[form] = grown_bytes(tmp_path / f"{form}_small", "1,2048,1,1", tmp_path / f"{form}_large", "1,1024,7,7")
    assert grown["dense"] > 32 << 20
    assert grown["hybrid"] <= grown["dense"] / 3


def grown_bytes(small: Path, small_shape: str, large: Path, large_shape: str) -> int:
    """What a session of `large` adds to the resident memory of a process that has run `small`."""
    command = [sys.executable, "-c", SCRIPT, str(small), small_shape, str(large), large_shape]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
