"""Write files atomically: every file is complete beside its target before the first one is renamed into place."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from onnx import TensorProto, numpy_helper

from crisp_onnx.errors import CrispError
from crisp_onnx.model.skeleton import without_weights
from crisp_onnx.model.spec import Model
from crisp_onnx.model.tensors import tensor_bytes

EXTERNAL_OVER_BYTES = 4 << 20
ALIGNMENT_BYTES = 64
MOVED_OVER_BYTES = 1024


def save(model: Model, path: Path) -> int:
    """Write the model; return the bytes of the file and its external data.

    A model over 4 MiB keeps its tensors in `<name>.data`, each at a multiple of 64 bytes, so that ONNX Runtime maps
    them and kernels read them in place. They are written one by one: a model over 2 GiB is like any other.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    proto, files = without_weights(model.proto), dict[Path, Iterable[bytes]]()
    moved = list[TensorProto]()
    data_path, end = path.with_name(path.name + ".data"), 0
    large = sum(_bytes(tensor) for tensor in model.proto.graph.initializer) + proto.ByteSize() > EXTERNAL_OVER_BYTES
    for tensor in model.proto.graph.initializer:
        if not large or tensor.data_type == TensorProto.STRING or _bytes(tensor) < MOVED_OVER_BYTES:
            proto.graph.initializer.append(tensor)
            continue
        moved.append(tensor)
        start = end + -end % ALIGNMENT_BYTES
        end = start + _bytes(tensor)
        proto.graph.initializer.append(_elsewhere(tensor, data_path.name, start, _bytes(tensor)))
    if moved:
        files[data_path] = _aligned(moved)
    files[path] = (proto.SerializeToString(),)
    return write_files(files)


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
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
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
