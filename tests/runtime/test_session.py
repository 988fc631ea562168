"""Opening models: with the kernels, without them, and what happens when they cannot work."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from hybrid_layer import model_of, random_layer
from int8_layer import int8_model, random_int8_layer
from onnx import TensorProto, helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model import TensorSpec
from crisp_onnx.runtime import layers_prepared, library_path, runtime_text, session, which_kernel
from crisp_onnx.runtime import library as library_module
from crisp_onnx.runtime import native as native_module
from crisp_onnx.runtime import session as session_function
from crisp_onnx.runtime.latency import measure_files
from crisp_onnx.runtime.library import BODY, Library, kernel_names, load_library, require_isa
from crisp_onnx.say_once import say_once

session_module = sys.modules[session_function.__module__]
FEED = {"X": np.ones((1, 16, 5, 5), np.float32)}


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.onnx"
    onnx.save(model_of(random_layer(np.random.default_rng(0), (16, 16, 3, 3))), path)
    return path


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Library(None, None, "This installation has no native kernels: it was built without a C++ compiler.")
    for module in (library_module, session_module):
        monkeypatch.setattr(module, "load_library", lambda: absent)
    say_once.cache_clear()


def test_a_hybrid_model_takes_the_kernels(hybrid: Path, library: Path) -> None:
    before = layers_prepared()
    native = session(hybrid, threads=1)
    assert layers_prepared() == before + 1
    stock = session(hybrid, native=False)
    assert layers_prepared() == before + 1
    assert np.allclose(native.run(None, FEED)[0], stock.run(None, FEED)[0], atol=1e-4)


def test_a_session_in_int8_lays_its_activations_out_once_unless_the_caller_brings_options(
    hybrid: Path, tmp_path: Path, library: Path
) -> None:
    int8 = tmp_path / "int8.onnx"
    onnx.save(int8_model(random_int8_layer(np.random.default_rng(0), (16, 16, 3, 3), block=16)), int8)
    patterns = [
        session(path, options=options).get_session_options().enable_mem_pattern
        for path, options in ((int8, None), (int8, ort.SessionOptions()), (hybrid, None))
    ]
    assert patterns == [False, True, True]


def test_an_operator_that_the_library_does_not_know_is_named_and_never_left_to_chance(
    hybrid: Path, library: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_module, "registered_operators", lambda: ("HybridGemm",))
    say_once.cache_clear()
    with pytest.raises(CrispError, match=r"have none for HybridConv: build them anew"):
        session(hybrid, native=True)
    with caplog.at_level(logging.WARNING):
        assert session(hybrid).run(None, FEED)[0].shape == (1, 16, 3, 3)
    assert "none for HybridConv" in caplog.text


def test_without_the_library_a_model_runs_its_bodies_and_warns_once(
    hybrid: Path, no_library: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers = [session(hybrid).run(None, FEED)[0] for _ in range(3)]
    assert np.array_equal(answers[0], answers[2])
    assert [record.message for record in caplog.records if "no native kernels" in record.message] == [
        "This installation has no native kernels: it was built without a C++ compiler. "
        "Compressed models run through their function bodies, at dense speed."
    ]


def test_the_runtime_of_a_file_is_named(hybrid: Path, tmp_path: Path, library: Path) -> None:
    assert runtime_text(hybrid) == f"native kernels, {require_isa()}"
    relu = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(relu), tmp_path / "relu.onnx")
    assert runtime_text(tmp_path / "relu.onnx") == "stock ONNX Runtime"


def test_without_the_library_the_named_runtime_is_dense(hybrid: Path, no_library: None) -> None:
    assert runtime_text(hybrid) == "stock ONNX Runtime: the function bodies run at dense speed"


def test_latency_is_measured_with_the_kernels(hybrid: Path, library: Path) -> None:
    before = layers_prepared()
    spec = TensorSpec("X", FEED["X"].shape, np.dtype(np.float32))
    rounds = measure_files([hybrid, hybrid], spec, budget_s=0.05).rounds
    assert layers_prepared() == before + 2 * rounds


def test_insisting_on_kernels_that_are_absent_is_an_error(hybrid: Path, no_library: None) -> None:
    with pytest.raises(CrispError, match="cannot run with the native kernels"):
        session(hybrid, native=True)
    with pytest.raises(CrispError, match="without a C\\+\\+ compiler"):
        library_path()
    assert which_kernel() == BODY


def test_weights_that_are_also_inputs_of_the_graph_run_the_body(hybrid: Path, library: Path) -> None:
    expected = session(hybrid).run(None, FEED)[0]
    model = onnx.load(hybrid)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    onnx.save(model, hybrid)
    before = layers_prepared()
    np.testing.assert_allclose(session(hybrid).run(None, FEED)[0], expected, rtol=1e-4, atol=1e-4)
    assert layers_prepared() == before


def test_a_type_without_a_kernel_runs_its_body(tmp_path: Path, library: Path) -> None:
    layer = random_layer(np.random.default_rng(0), (16, 16, 3, 3))
    half = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in layer.tensors.items()}
    node = helper.make_node("HybridConv", ["Xh", *half], ["Yh"], name="layer0", domain="pkg.crisp_onnx", **layer.attrs)
    model = model_of(layer)
    # A body of half precision: Conv and the expansion as usual, the bounds cast to the type of the sums.
    body = model.functions[0]
    for constant in body.node:
        if constant.op_type == "ConstantOfShape":
            constant.attribute.append(
                helper.make_attribute("value", helper.make_tensor("v", TensorProto.FLOAT16, [1], [0]))
            )
    body.node[-1].CopyFrom(helper.make_node("Identity", ["sums"], ["Y"]))
    casts = [
        helper.make_node("Cast", ["X"], ["Xh"], to=TensorProto.FLOAT16),
        node,
        helper.make_node("Cast", ["Yh"], ["Y"], to=TensorProto.FLOAT),
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(casts)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in half.items())
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    before = layers_prepared()
    assert session(path).run(None, FEED)[0].shape == (1, 16, 3, 3)
    assert layers_prepared() == before
    with pytest.raises(CrispError, match="float16, for which there is no kernel"):
        session(path, native=True)


def test_a_dense_model_opens_as_any_other(tmp_path: Path) -> None:
    text = "<ir_version: 8, opset_import: ['' : 17]> g (float[1,2] X) => (float[1,2] Y) { Y = Relu (X) }"
    path = tmp_path / "dense.onnx"
    onnx.save(onnx.parser.parse_model(text.replace("'", '"')), path)
    opened = session(path, threads=1)
    assert isinstance(opened, ort.InferenceSession)
    with pytest.raises(CrispError, match="no hybrid operators"):
        session(path, native=True)


@pytest.mark.parametrize(
    "providers",
    [
        ("CPUExecutionProvider",),
        [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})],
        ort.get_available_providers(),
        ["AzureExecutionProvider"],
        [("CUDAExecutionProvider", {"device_id": "0"}), "CPUExecutionProvider"],
        [],
    ],
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_the_kernels_run_wherever_the_cpu_does_all_the_work(hybrid: Path, library: Path, providers: list[str]) -> None:
    if set(ort.get_available_providers()) - session_module.COMPUTE_ON_CPU:
        pytest.skip("this ONNX Runtime has other providers")
    before = layers_prepared()
    session(hybrid, providers=providers)
    assert layers_prepared() == before + 1


def test_a_provider_that_takes_layers_itself_keeps_the_kernels_out_with_a_word(
    hybrid: Path, library: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["OtherExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(session_module, "_open", lambda *_: OpenedOn("OtherExecutionProvider", "CPUExecutionProvider"))
    say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        session(hybrid, providers=["OtherExecutionProvider", "CPUExecutionProvider"])
    (said,) = [record.message for record in caplog.records]
    assert "would pull layers back from OtherExecutionProvider." in said
    with pytest.raises(CrispError, match="pull layers back from OtherExecutionProvider"):
        session(hybrid, providers=["OtherExecutionProvider"], native=True)


def test_a_provider_that_does_not_start_leaves_the_work_to_the_cpu_and_so_to_the_kernels(
    hybrid: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["OtherExecutionProvider", "CPUExecutionProvider"])
    original, opened = session_module._open, []

    def fall_back(model: Path, options: ort.SessionOptions, providers: list[str]) -> object:
        opened.append(providers)
        return OpenedOn("CPUExecutionProvider") if len(opened) == 1 else original(model, options, providers)

    monkeypatch.setattr(session_module, "_open", fall_back)
    before = layers_prepared()
    session(hybrid, providers=["OtherExecutionProvider", "CPUExecutionProvider"])
    assert layers_prepared() == before + 1


class OpenedOn:
    """A session that says which providers it got."""

    def __init__(self, *providers: str) -> None:
        self.providers = list(providers)

    def get_providers(self) -> list[str]:
        return self.providers


def test_options_serve_several_sessions_whoever_registered_the_library(hybrid: Path, library: Path) -> None:
    before, options = layers_prepared(), ort.SessionOptions()
    for _ in range(3):
        session(hybrid, options=options)
    assert layers_prepared() == before + 3
    own = ort.SessionOptions()
    own.register_custom_ops_library(str(library_path()))
    session(hybrid, options=own)
    own.register_custom_ops_library(str(library_path()))
    ort.InferenceSession(str(hybrid), own, providers=["CPUExecutionProvider"])
    assert layers_prepared() == before + 5


def test_options_that_bring_the_kernels_are_refused_where_they_must_stay_out(
    hybrid: Path, library: Path, tmp_path: Path
) -> None:
    options = ort.SessionOptions()
    session(hybrid, options=options)
    with pytest.raises(CrispError, match=r"bring the native kernels, .* to .*hybrid\.onnx\. .* Give others"):
        session(hybrid, native=False, options=options)
    relu = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(relu), tmp_path / "relu.onnx")
    session(tmp_path / "relu.onnx", native=False, options=options)


def test_a_model_in_memory_takes_the_kernels_too(hybrid: Path, library: Path) -> None:
    before = layers_prepared()
    answer = session(hybrid.read_bytes()).run(None, FEED)[0]
    assert layers_prepared() == before + 1
    np.testing.assert_array_equal(answer, session(hybrid).run(None, FEED)[0])
    with pytest.raises(CrispError, match="bytes are not an ONNX model"):
        session(b"\xff\x00broken")


def test_threads_sleep_between_runs_where_that_is_asked(hybrid: Path, library: Path) -> None:
    options = ort.SessionOptions()
    session(hybrid, threads=2, sleep_between_runs=True, options=options)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_a_missing_file_and_a_broken_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(CrispError, match=r"No such file: .*gone\.onnx"):
        session(tmp_path / "gone.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\xff\x00broken")
    with pytest.raises(CrispError, match="not an ONNX model"):
        session(tmp_path / "broken.onnx")


def test_kernel_names_follow_the_convention(library: Path) -> None:
    assert kernel_names()
    assert all(name.startswith(("f32_hybrid_", "f32_hybridrow_")) and "__" in name for name in kernel_names())
    assert which_kernel(vector_rows=8, positions=49) in kernel_names()
    assert which_kernel(vector_rows=4, positions=1, gemm=True) in kernel_names()


def test_the_variable_forces_an_instruction_set(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRISP_ONNX_ISA", "portable")
    assert which_kernel().endswith("__portable")
    monkeypatch.setenv("CRISP_ONNX_ISA", "abacus")
    with pytest.raises(CrispError, match="this machine runs"):
        which_kernel()


@pytest.mark.slow
def test_installing_without_a_compiler_gives_a_pure_python_package_and_a_warning(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-v", "-w", str(tmp_path)]
    command.append(f"--config-settings=build-dir={tmp_path / 'build'}")
    environment = {**os.environ, "CXX": "/nonexistent/c++", "CC": "/nonexistent/cc"}
    done = subprocess.run([*command, str(root)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "native kernels" in done.stdout + done.stderr
    assert "crisp_onnx/runtime/opening.py" in _files_of_wheel(tmp_path)
    assert not any("libcrisp_onnx_kernels" in name for name in _files_of_wheel(tmp_path))
    # In the same build folder, once there is a compiler.
    done = subprocess.run([*command, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert any("libcrisp_onnx_kernels" in name for name in _files_of_wheel(tmp_path))


def _files_of_wheel(folder: Path) -> list[str]:
    """Of the newest."""
    wheel = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    return zipfile.ZipFile(wheel).namelist()


def test_the_library_is_loaded_once() -> None:
    assert load_library() is load_library()
