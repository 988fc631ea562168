"""Recognise by its first bytes what a file is that should be an ONNX model and is not."""

from __future__ import annotations

_AT_START = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`."),
    (b"version https://hawser", "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`."),
    (b"PK\x03\x04", "a zip archive, perhaps a torch checkpoint: not an ONNX model. Unpack it or export the model."),
    (b"\x1f\x8b", "a gzip archive: not an ONNX model. Unpack it first."),
    (b"\x89HDF", "an HDF5 file, perhaps of Keras: not an ONNX model. Export the model with tf2onnx."),
    (b"\x80\x02", "a pickle, perhaps a torch checkpoint: not an ONNX model. Export the model with torch.onnx."),
    (b"\x80\x04", "a pickle, perhaps a torch checkpoint: not an ONNX model. Export the model with torch.onnx."),
)
_AT_FOUR = (
    (b"ORTM", "in ONNX Runtime's own ORT format: not an ONNX model. Give the .onnx file that it was made from."),
    (b"TFL3", "a TensorFlow Lite model: not an ONNX model. Convert it with tf2onnx."),
)
_PAGES = (b"<!doctype html", b"<html")


def other_kind(content: bytes) -> str:
    """What the file is, with what to do about it, to stand behind "is"; empty where nothing is known."""
    for mark, kind in _AT_START:
        if content.startswith(mark):
            return kind
    for mark, kind in _AT_FOUR:
        if content[4:8] == mark:
            return kind
    if content.lstrip()[:14].lower().startswith(_PAGES):
        return "a web page, not an ONNX model. Download the file itself."
    return ""
