"""The library in a host that is not Python: the C++ sample, built and run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hybrid_layer import model_of, random_layer

from crisp_onnx.runtime import session

ROOT = Path(__file__).parents[2]


def test_the_cpp_sample_gives_the_answers_of_python(tmp_path: Path, library: Path) -> None:
    compiler = shutil.which("c++")
    runtime = next((Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if compiler is None or runtime is None:
        pytest.skip("needs a C++ compiler and an ONNX Runtime that comes with its shared library")
    model = tmp_path / "layer.onnx"
    onnx.save(model_of(random_layer(np.random.default_rng(0), (32, 16, 3, 3))), model)
    program = tmp_path / "host"
    source, header = ROOT / "samples" / "cpp_host" / "host.cc", Path(__file__).parent / "host_api"
    link = [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    (tmp_path / "libonnxruntime.so.1").symlink_to(runtime)
    build = [compiler, "-std=c++17", str(source), f"-I{header}", *link, f"-Wl,-rpath,{tmp_path}", "-o", str(program)]
    subprocess.run(build, check=True)
    command = [str(program), str(model), str(library), "X", "Y", "1", "16", "9", "9"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    expected = session(model, native=True).run(None, {"X": np.ones((1, 16, 9, 9), np.float32)})[0]
    assert np.allclose([float(value) for value in printed], expected.reshape(-1)[:4], rtol=1e-4)
    assert len(printed) == 4
