"""Read the tensors that a model keeps in other files: which files may be read, how much of them, and where they end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo

from crisp_onnx.errors import CrispError
from crisp_onnx.model.file_kind import other_kind
from crisp_onnx.model.tensors import stored_tensors, tensor_bytes
from crisp_onnx.reading import border, shown


@dataclass(frozen=True)
class _Place:
    """Where the data of `tensor` lie; `what` names it in messages."""

    tensor: TensorProto
    what: str
    file: Path
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class ExternalData:
    """What was read: the files, and the bytes of them that belong to the model."""

    files: tuple[Path, ...]
    bytes: int


def read_external_data(proto: onnx.ModelProto, path: Path, seen: Callable[[bytes], object]) -> ExternalData:
    """Bring all external data of the model at `path` into `proto`; `seen` gets the bytes of each tensor in order.

    Only what tensors refer to is read, whatever the size of the file.

    Raises:
        CrispError: a file is missing, ends early or lies elsewhere, a place makes no sense, or the data would not fit
            into memory.
    """
    external = [(t, what) for t, what in stored_tensors(proto) if t.data_location == TensorProto.EXTERNAL]
    places = [_place(tensor, what, path) for tensor, what in external]
    _require_memory(places, path)
    ends: dict[Path, int] = {}
    for place in places:
        with border(f"{place.what} of {path} cannot be read from {place.file}"), place.file.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.length)
        if len(content) < place.length:
            raise _cut_off(place)
        seen(content)
        place.tensor.ClearField("data_location")
        del place.tensor.external_data[:]
        place.tensor.raw_data = content
        ends[place.file] = max(ends.get(place.file, 0), place.end)
    return ExternalData(tuple(ends), sum(ends.values()))


def _place(tensor: TensorProto, what: str, model: Path) -> _Place:
    """Where the tensor's data are, checked to be a file that may be read and long enough."""
    wanted = tensor_bytes(tensor, what)
    with border(f"{what} of {model} has a place for its external data that makes no sense", "Export the model again."):
        info = ExternalDataInfo(tensor)
        location, offset = str(info.location), int(info.offset or 0)
        length = wanted if info.length is None else int(info.length)
    if tensor.data_type == TensorProto.STRING or offset < 0 or length != wanted:
        raise CrispError(
            f"{what} of {model} has external data of {length} bytes at offset {offset}, but its shape "
            f"{list(tensor.dims)} takes {wanted}. Export the model again."
        )
    place = _Place(tensor, what, _file(location, what, model), offset, length)
    with border(f"{place.file} cannot be read"):
        size = place.file.stat().st_size
    if size < place.end:
        raise _cut_off(place)
    return place


def _file(location: str, what: str, model: Path) -> Path:
    """The file at `location`, which must lie inside the model's folder; a link may lead to the model's own company."""
    file, shown_location = model.parent / location, shown(location)
    outside = (
        f"{what} keeps its data in {shown_location!r}, outside the model's folder {model.parent}. Copy the file itself "
        "there, in place of a link, or correct the location."
    )
    climbs = ".." in Path(location).parts  # which a path may do as long as it stays inside
    if not location or "\0" in location or Path(location).is_absolute():
        raise CrispError(outside)
    with border(f"{what} keeps its data in {shown_location!r}, which cannot be read"):
        real, folder = file.resolve(), model.parent.resolve()
        inside = real.is_relative_to(folder)
        if climbs and not inside:
            raise CrispError(outside)
        if not file.is_file():
            raise CrispError(f"{what} keeps its data in {file}, which does not exist. Copy it there.")
        if not inside and not _in_company(real, model):
            raise CrispError(outside)
    return file


def _in_company(real: Path, model: Path) -> bool:
    """Whether a link's target lies where the model's own file does, as in a cache of Hugging Face, and has its owner.

    There `snapshots/<revision>/model.onnx` and its data are links into `blobs`.
    """
    folders = [model.resolve().parent]
    for parent in model.absolute().parents:
        if parent.name == "snapshots":
            folders.append(parent.parent.resolve() / "blobs")
    near = any(real.parent == folder for folder in folders)
    return near and (os.name == "nt" or real.stat().st_uid == model.stat().st_uid)


def _cut_off(place: _Place) -> CrispError:
    with border(f"{place.file} cannot be read"), place.file.open("rb") as file:
        kind = other_kind(file.read(64))
    if kind:
        return CrispError(f"{place.file} is {kind}")
    return CrispError(
        f"{place.file} ends before {place.what[0].lower()}{place.what[1:]} does (byte {place.end}): it is truncated. "
        "Copy it again."
    )


def _require_memory(places: Sequence[_Place], path: Path) -> None:
    wanted = sum(place.length for place in places)
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return
    if wanted > there:
        raise CrispError(
            f"The external data of {path} take {wanted / 1e9:.1f} GB; this machine has {there / 1e9:.1f} GB of memory."
        )
