"""Read the profiles of TensorRT, Vela, OpenVINO and ONNX Runtime, told apart by what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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
    """The profile in one file or several of one tool. `layers`: of the model that was measured.

    Raises:
        CrispError: a file that is none of those, is damaged, or lacks its other half; files of several tools.
    """
    whole: list[Profile] = []
    times: list[object] = []
    info: list[object] = []
    for path in paths:
        text = read_text(path, "profile", limit=MAX_BYTES)
        with _readable(path):
            found = _whole(text, clock_hz, layers)
        if isinstance(found, Profile):
            whole.append(found)
        elif tensorrt.is_times(found):
            times.append(found)
        elif tensorrt.is_layers(found):
            info.append(found)
        else:
            raise CrispError(f"{shown(str(path))} is no profile that is known. Give {KNOWN}.")
    if times or info:
        whole.append(_of_halves(times, info, paths))
    return _joined(whole)


def _whole(text: str, clock_hz: float, layers: Sequence[Layer]) -> object:
    """What a file says that is a profile by itself; of another the JSON document."""
    header = text.lstrip().splitlines()[0] if text.strip() else ""
    if vela.is_layers(header):
        return vela.read_layers(text, clock_hz)
    if vela.is_summary(header):
        return vela.read_summary(text)
    if openvino.is_table(header):
        return openvino.read_table(text, layers)
    content = onnxruntime.parse(text)
    if openvino.is_document(content):
        return openvino.read_document(content, layers)  # type: ignore[arg-type]
    if onnxruntime.is_onnxruntime(content):
        return onnxruntime.read_onnxruntime(content, layers)  # type: ignore[arg-type]
    return content


def _of_halves(times: Sequence[object], info: Sequence[object], paths: Sequence[Path]) -> Profile:
    if not times or not info:
        missing = "--exportProfile (the times)" if not times else "--exportLayerInfo (the shapes)"
        raise CrispError(f"TensorRT's profile is two files: give the JSON of `trtexec {missing}` as well.")
    if len(times) > 1 or len(info) > 1:
        raise CrispError("TensorRT's profile is two files, and these are of several engines. Give those of one.")
    with _readable(*paths):
        return tensorrt.read_tensorrt(times[0], info[0])  # type: ignore[arg-type]


def _joined(profiles: Sequence[Profile]) -> Profile:
    """All layers of all `profiles`, which are rows of the same kind."""
    first = profiles[0]
    if any((one.tool, one.of_networks) != (first.tool, first.of_networks) for one in profiles):
        tools = " and ".join(dict.fromkeys(one.tool + (" (networks)" if one.of_networks else "") for one in profiles))
        raise CrispError(f"The files are profiles of {tools}. Give those of one tool, and of one kind.")
    layers = tuple(layer for one in profiles for layer in one.layers)
    return replace(first, layers=layers, left_out=sum(one.left_out for one in profiles))


def _readable(*paths: Path) -> AbstractContextManager[None]:
    names = " with ".join(shown(str(path)) for path in paths)
    return border(f"{names} is no profile that can be read", f"Give {KNOWN}.")
