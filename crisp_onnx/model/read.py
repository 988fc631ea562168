"""Load an ONNX file: every way in which a file can be broken is one clear error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import DEFAULT_DOMAIN, Model


def load(path: str | Path) -> Model:
    """Read `path` with its external data.

    Raises:
        CrispError: no such file, not ONNX, truncated, external data missing or outside the model's folder,
            weights stored as `sparse_initializer`, or a graph that the ONNX checker refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise CrispError(f"{path} is a folder. Give the path of the ONNX file in it.")
    if not path.is_file():
        raise CrispError(f"No such file: {path}. Give the path of an ONNX model.")
    digest = hashlib.sha256()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CrispError(f"Cannot read {path}: {error.strerror}.") from error
    digest.update(content)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise CrispError(
            f"{path} is not an ONNX model, or it is truncated ({len(content)} bytes). Export or copy it again."
        ) from error
    if not proto.graph.node or not any(o.domain in DEFAULT_DOMAIN for o in proto.opset_import):
        raise CrispError(f"{path} is not an ONNX model: it holds no graph or names no opset. Export it again.")
    if proto.graph.sparse_initializer:
        raise CrispError(
            f"{path} stores weights as sparse_initializer, which few tools keep. "
            "Write them as ordinary initializers first."
        )
    file_bytes = len(content)
    data_files: tuple[Path, ...] = ()
    try:
        data_files = tuple(_external_files(proto, path.parent))
        for file in data_files:
            digest.update(file.read_bytes())
            file_bytes += file.stat().st_size
        external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise CrispError(f"The external data of {path} cannot be read: {_first_line(error)}.") from error
    _check(proto, path)
    return Model(proto, path, digest.hexdigest(), file_bytes, data_files)


def _external_files(proto: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files that hold external data, each checked to exist inside the model's folder and to be long enough."""
    files: dict[Path, None] = {}
    root = folder.resolve()
    for tensor in external_data_helper._get_all_tensors(proto):
        if not external_data_helper.uses_external_data(tensor):
            continue
        info = external_data_helper.ExternalDataInfo(tensor)
        if (info.offset or 0) < 0 or (info.length or 0) < 0:
            raise ValueError(f"tensor {tensor.name!r} names a negative offset or length")
        file = (folder / info.location).resolve()
        if Path(info.location).is_absolute() or not file.is_relative_to(root):
            raise CrispError(
                f"Tensor {tensor.name!r} keeps its data in {info.location!r}, outside the model's folder {folder}. "
                "Move the file there and correct the location."
            )
        if not file.is_file():
            raise CrispError(f"Tensor {tensor.name!r} keeps its data in {file}, which does not exist. Copy it there.")
        end = (info.offset or 0) + (info.length or 0)
        if file.stat().st_size < end:
            raise CrispError(f"{file} ends before tensor {tensor.name!r} (byte {end}): truncated. Copy it again.")
        files[file] = None
    return list(files)


def _check(proto: onnx.ModelProto, path: Path) -> None:
    # A serialized model over 2 GiB cannot be passed to the checker; ONNX Runtime still checks it at load.
    if proto.ByteSize() >= 2**31 - 1:
        return
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:  # damaged names cannot even be reported
        raise CrispError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
