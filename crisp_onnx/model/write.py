"""Write files atomically: every file is complete beside its target before the first one is renamed into place."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import Model

EXTERNAL_OVER_BYTES = 4 << 20
ALIGNMENT_BYTES = 64


def serialize(model: Model, path: Path) -> dict[Path, bytes]:
    """The files that hold the model, in the order in which they should be put in place.

    A model over 4 MiB keeps its tensors in `<name>.data`, each at a multiple of 64 bytes, so that ONNX Runtime maps
    them and kernels read them in place.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    files: dict[Path, bytes] = {}
    if proto.ByteSize() > EXTERNAL_OVER_BYTES:
        data_path = path.with_name(path.name + ".data")
        files[data_path] = _move_out(proto, data_path.name)
    files[path] = proto.SerializeToString()
    return files


def save(model: Model, path: Path) -> int:
    """Write the model; return the bytes of the file and its external data.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    files = serialize(model, path)
    write_files(files)
    return sum(map(len, files.values()))


def write_files(files: Mapping[Path, bytes]) -> None:
    """Replace every path by its content. Nothing is replaced unless all of it could be written.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    staged: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in files.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            staged[path] = Path(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged[path].chmod(0o666 & ~_umask())
        for path, ready in staged.items():
            ready.replace(path)
    except OSError as error:
        raise CrispError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder."
        ) from error
    finally:
        for ready in staged.values():
            ready.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _move_out(proto: onnx.ModelProto, location: str) -> bytes:
    """Move the large initializers of `proto` into one aligned byte string and point them to `location`."""
    parts = bytearray()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.STRING or tensor.ByteSize() < 1024:
            continue
        # from_array packs types of less than a byte as the file wants them; tobytes() would not.
        raw = tensor.raw_data or onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data
        parts += b"\0" * (-len(parts) % ALIGNMENT_BYTES)
        offset = len(parts)
        parts += raw
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        tensor.raw_data = raw  # set_external_data refuses a tensor without raw data
        external_data_helper.set_external_data(tensor, location, offset=offset, length=len(raw))
        tensor.ClearField("raw_data")
    return bytes(parts)
