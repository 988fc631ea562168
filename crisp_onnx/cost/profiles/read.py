"""Read the profiles of TensorRT, Vela, OpenVINO and ONNX Runtime, told apart by what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from crisp_onnx.cost.profiles import onnxruntime, openvino, tensorrt, vela
from crisp_onnx.cost.profiles.timed import Profile
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import Layer
from crisp_onnx.reading import border, read_text, shown

MAX_BYTES = 256 << 20
KNOWN = (
    "the JSON of `trtexec --exportProfile` with that of `--exportLayerInfo`, Vela's per-layer or summary CSV, the CSV "
    "or JSON of OpenVINO's `benchmark_app -report_type detailed_counters`, or ONNX Runtime's profile"
)


def read_profile(paths: Sequence[Path], *, clock_hz: float, layers: Sequence[Layer] = ()) -> Profile:
    """The profile in one file, or in the two that TensorRT writes. `layers`: of the model that was measured.

    Raises:
        CrispError: a file that is none of those, is damaged, or lacks its other half.
    """
    times, info = None, None
    for path in paths:
        text = read_text(path, "profile", limit=MAX_BYTES)
        header = text.lstrip().splitlines()[0] if text.strip() else ""
        with _readable(path):
            if vela.is_layers(header):
                return vela.read_layers(text, clock_hz)
            if vela.is_summary(header):
                return vela.read_summary("".join(_text(path) for path in paths))
            if openvino.is_table(header):
                return openvino.read_table(text, layers)
            content = onnxruntime.parse(text)
            if openvino.is_document(content):
                return openvino.read_document(content, layers)  # type: ignore[arg-type]
            if onnxruntime.is_onnxruntime(content):
                return onnxruntime.read_onnxruntime(content, layers)  # type: ignore[arg-type]
        if tensorrt.is_times(content):
            times = content
        elif tensorrt.is_layers(content):
            info = content
        else:
            raise CrispError(f"{shown(str(path))} is no profile that is known. Give {KNOWN}.")
    if times is None or info is None:
        missing = "--exportProfile (the times)" if times is None else "--exportLayerInfo (the shapes)"
        raise CrispError(f"TensorRT's profile is two files: give the JSON of `trtexec {missing}` as well.")
    with _readable(*paths):
        return tensorrt.read_tensorrt(times, info)  # type: ignore[arg-type]


def _readable(*paths: Path) -> AbstractContextManager[None]:
    names = " with ".join(shown(str(path)) for path in paths)
    return border(f"{names} is no profile that can be read", f"Give {KNOWN}.")


def _text(path: Path) -> str:
    text = read_text(path, "profile", limit=MAX_BYTES)
    return text if text.endswith("\n") else text + "\n"
