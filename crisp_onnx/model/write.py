"""Write files atomically: every file is complete beside its target before the first one is renamed into place."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from pathlib import Path

from onnx import TensorProto, numpy_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.skeleton import without_weights
from crisp_onnx.model.spec import Model
from crisp_onnx.model.tensors import tensor_bytes

EXTERNAL_OVER_BYTES = 4 << 20
ONE_FILE_BYTES = (2 << 30) - (1 << 20)  # what protobuf can hold, less room for the graph
ALIGNMENT_BYTES = 64
WEIGHTS = ".data"
HASH_DIGITS = 12
MOVED_OVER_BYTES = 1024


def save(model: Model, path: Path, *, one_file: bool = False) -> int:
    """Write the model; return the bytes of the file and its external data.

    A model over 4 MiB keeps its tensors in `<name>.<hash>.data`, each at a multiple of 64 bytes, so that ONNX Runtime
    maps them and kernels read them in place. They are written one by one: a model over 2 GiB is like any other. The
    name follows from the content, so that no model ever stands beside weights that are not its own; the weights file
    of a model that is replaced goes. `one_file`: only a model over 2 GiB, which no file may be, is written so.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    proto, files = without_weights(model.proto), dict[Path, Iterable[bytes]]()
    tensors = list(model.proto.graph.initializer)
    limit = ONE_FILE_BYTES if one_file else EXTERNAL_OVER_BYTES
    least = MOVED_OVER_BYTES if sum(map(_bytes, tensors)) + proto.ByteSize() > limit else inf
    moved = [tensor for tensor in tensors if _bytes(tensor) >= least]
    data_path, end = weights_path(path, _digest(_aligned(moved))), 0
    for tensor in tensors:
        if _bytes(tensor) < least:
            proto.graph.initializer.append(tensor)
            continue
        start = end + -end % ALIGNMENT_BYTES
        end = start + _bytes(tensor)
        proto.graph.initializer.append(_elsewhere(tensor, data_path.name, start, _bytes(tensor)))
    if moved:
        files[data_path] = _aligned(moved)
    files[path] = (proto.SerializeToString(),)
    written = write_files(files)
    for former in weights_files(path):
        if former not in files:
            former.unlink(missing_ok=True)
    return written


def weights_path(path: Path, digest: str) -> Path:
    """The file beside the model `path` for weights of that digest, of 12 hexadecimal digits."""
    return path.with_name(f"{path.name}.{digest}{WEIGHTS}")


def weights_files(path: Path) -> list[Path]:
    """The files beside the model `path` that `save` may have written for it."""
    name = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{HASH_DIGITS}}}{re.escape(WEIGHTS)}")
    return [file for file in path.parent.iterdir() if name.fullmatch(file.name)] if path.parent.is_dir() else []


def write_files(files: Mapping[Path, bytes | Iterable[bytes]]) -> int:
    """Replace every path by its content, whole or in pieces; return the bytes written in all.

    Nothing is replaced unless all of it could be written.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    staged: dict[Path, Path] = {}
    path, written = Path(), 0
    try:
        for path, content in files.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            handle, temporary = tempfile.mkstemp(prefix=".crisp-", dir=path.parent)
            staged[path] = Path(temporary)
            with os.fdopen(handle, "wb") as file:
                for piece in (content,) if isinstance(content, bytes) else content:
                    written += file.write(piece)
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
    return written


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _bytes(tensor: TensorProto) -> int:
    return 0 if tensor.data_type == TensorProto.STRING else tensor_bytes(tensor, f"Tensor {tensor.name!r}")


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:HASH_DIGITS]


def _aligned(tensors: Iterable[TensorProto]) -> Iterator[bytes]:
    """The data of the tensors, padded so that each begins at a multiple of 64 bytes."""
    end = 0
    for tensor in tensors:
        padding = -end % ALIGNMENT_BYTES
        # from_array packs types of less than a byte as the file wants them; tobytes() would not.
        raw = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        yield bytes(padding) + raw
        end += padding + len(raw)


def _elsewhere(tensor: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    """The tensor without its data, which lie in the file `location`."""
    bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string)
    bare.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        bare.external_data.add(key=key, value=str(value))
    return bare
