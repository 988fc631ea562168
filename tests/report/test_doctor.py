"""The doctor finds what is there, and whatever is not comes with what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from crisp_onnx.report import doctor as module
from crisp_onnx.report.doctor import DoctorReport, Finding, doctor, versions
from crisp_onnx.report.machine import memory_bytes, peak_memory_bytes, processor
from crisp_onnx.runtime import library as library_module
from crisp_onnx.runtime.library import Library


def _find(report: DoctorReport, name: str) -> Finding:
    return next(finding for finding in report.findings if finding.name == name)


def test_this_environment_is_ready_and_its_versions_are_the_installed_ones() -> None:
    report = doctor()
    assert report.ready
    for name in ("crisp-onnx", "torch", "onnxruntime", "numpy"):
        assert _find(report, name).found == metadata.version(name)


def test_whatever_is_not_ok_has_a_remedy_and_the_rest_none() -> None:
    for finding in doctor().findings:
        assert bool(finding.remedy) == (finding.state != "ok"), finding


def test_a_package_older_than_the_metadata_asks_for_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.5.1+cpu" if name == "torch" else real(name))
    report = doctor()
    assert _find(report, "torch") == Finding(
        name="torch", state="old", found="2.5.1+cpu", remedy="pip install --upgrade 'torch>=2.6'"
    )
    assert not report.ready


def test_a_required_package_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "onnxruntime")
    report = doctor()
    assert _find(report, "onnxruntime").state == "missing"
    assert _find(report, "onnxruntime").remedy == "pip install 'onnxruntime>=1.17'"
    assert not report.ready


def test_an_optional_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "netron")
    report = doctor()
    assert _find(report, "netron").state == "missing"
    assert "pip install netron" in _find(report, "netron").remedy
    assert report.ready


def test_a_tree_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "crisp-onnx")
    report = doctor()
    assert "pip install -e ." in _find(report, "crisp-onnx").remedy
    assert not report.ready
    assert "crisp-onnx" not in versions()


def test_without_a_compiler_it_says_what_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    finding = _find(doctor(), "C++ compiler")
    assert finding.state == "missing"
    assert "not compiled" in finding.remedy


def test_native_kernels_are_named_by_instruction_set_or_their_absence_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"float32": ("avx2", "portable"), "int8": ("avx_vnni", "avx2", "portable")}
    there = Library(Path("kernels.so"), None)
    monkeypatch.setattr(library_module, "load_library", lambda: there)
    monkeypatch.setattr(library_module, "available_isas", known.__getitem__)
    monkeypatch.setattr(library_module, "require_isa", lambda element: known[element][0])
    monkeypatch.setattr(library_module, "which_kernel", lambda element: f"8x16__{known[element][0]}")
    report = doctor()
    assert _find(report, "native kernels, float32").found == "avx2, portable; in use: avx2 (8x16__avx2)"
    found = _find(report, "native kernels, int8").found
    assert found == "avx_vnni, avx2, portable; in use: avx_vnni (8x16__avx_vnni)"
    monkeypatch.setattr(library_module, "load_library", lambda: Library(None, None, "Built without a compiler."))
    finding = _find(doctor(), "native kernels")
    assert finding.state == "missing"
    assert finding.remedy.startswith("Built without a compiler. Compressed models run no faster")
    monkeypatch.setitem(sys.modules, "crisp_onnx.runtime.library", None)
    assert "Install the packages above" in _find(doctor(), "native kernels").remedy


def test_the_kernels_named_are_those_that_layers_of_each_type_run() -> None:
    if library_module.load_library().reason:
        pytest.skip(library_module.load_library().reason)
    report = doctor()
    for element in library_module.ELEMENTS:
        found = _find(report, f"native kernels, {element}").found
        assert f"({library_module.which_kernel(element=element)})" in found
        assert found.startswith(", ".join(library_module.available_isas(element)))


def test_a_variable_that_names_no_instruction_set_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    if library_module.load_library().reason:
        pytest.skip(library_module.load_library().reason)
    monkeypatch.setenv("CRISP_ONNX_ISA", "abacus")
    report = doctor()
    for element in library_module.ELEMENTS:
        finding = _find(report, f"native kernels, {element}")
        assert finding.state == "missing"
        assert "CRISP_ONNX_ISA is 'abacus'" in finding.remedy


@pytest.mark.parametrize(
    ("machine", "absent"), [("x86_64", ["avx512f", "avx512vbmi", "avx_vnni"]), ("aarch64", ["asimddp"])]
)
def test_missing_features_are_listed_for_the_machine_at_hand(
    monkeypatch: pytest.MonkeyPatch, machine: str, absent: list[str]
) -> None:
    monkeypatch.setattr(module, "processor", lambda: ("Some CPU", frozenset({"avx2", "avx512_vnni", "asimd"})))
    monkeypatch.setattr(module.platform, "machine", lambda: machine)
    report = doctor()
    missing = [f.name for f in report.findings if f.found == "no"]
    assert missing == absent
    assert report.ready


def test_a_system_that_tells_no_features_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor", lambda: ("Some CPU", None))
    assert _find(doctor(), "processor features").found == "unknown"


@pytest.mark.parametrize("field", ["flags", "Features"])
def test_processor_is_read_from_both_kinds_of_cpuinfo(tmp_path: Path, field: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: Fast: one\n{field}\t: fpu avx2\n\nmodel name\t: Other\n")
    assert processor(file) == ("Fast: one", frozenset({"fpu", "avx2"}))
    assert processor(tmp_path / "absent")[1] is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="this system has no /proc")
def test_memory_agrees_with_other_sources(tmp_path: Path) -> None:
    total, free = memory_bytes()
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert free is not None
    assert 0 < free < total
    assert memory_bytes(tmp_path / "absent") == (None, None)
    high_water = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory_bytes() == pytest.approx(int(high_water.split()[1]) * 1024, rel=0.02)


def test_the_doctor_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys; from crisp_onnx.report.doctor import doctor; doctor(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"torch", "matplotlib"} & set(done.stdout.split())


def _hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == hidden:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
