"""TensorRT: `trtexec --exportProfile` (times) and `--exportLayerInfo` (shapes), two JSON files of one engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from crisp_onnx.cost.profiles.timed import Profile, TimedLayer, convolution, dense
from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import product_kind
from crisp_onnx.lowering.matrix import transposed_conv_matrix
from crisp_onnx.lowering.schema import OpKind

PRODUCTS = ("conv", "gemm", "matrix", "matmul", "attention", "myelin")
"""In the types of layers that compute; without a count of weights, nothing tells how much."""
WIDTH = {"int8": 1, "fp16": 2, "fp32": 4}
DTYPES = {
    "int8": "int8", "fp16": "fp16", "half": "fp16", "bf16": "fp16", "bfloat16": "fp16", "fp32": "fp32", "float": "fp32"
}  # fmt: skip
"""Both types of 16 bits are multiplied at one rate."""


def is_times(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(entry, dict) and "averageMs" in entry and "name" in entry for entry in content
    )


def is_layers(content: object) -> bool:
    return isinstance(content, dict) and isinstance(content.get("Layers"), list)


def read_tensorrt(times: Sequence[Mapping[str, Any]], info: Mapping[str, Any]) -> Profile:
    """Layers of both files by name.

    Raises:
        CrispError: the layer information has names only, because the engine was not built with details, or no sizes,
            because it was built for dynamic shapes.
    """
    listed = info["Layers"]
    if listed and all(isinstance(entry, str) for entry in listed):
        raise CrispError(
            "The layer information holds names without shapes. Build the engine with "
            "`trtexec --profilingVerbosity=detailed` and export it again."
        )
    about = {str(entry.get("Name")): entry for entry in listed if isinstance(entry, dict)}
    if any(_is_dynamic(entry) for entry in about.values()):
        raise CrispError(
            "The layer information holds sides of -1: the engine was built for dynamic shapes. Build it from a model "
            "whose shapes are fixed, and export it again."
        )
    measured = [entry for entry in times if "name" in entry]
    found = [_layer(entry, about.get(str(entry["name"]))) for entry in measured]
    layers = tuple(layer for layer in found if layer is not None)
    return Profile("TensorRT", layers, len(found) - len(layers))


def _is_dynamic(about: Mapping[str, Any]) -> bool:
    return any(-1 in tensor.get("Dimensions", ()) for key in ("Inputs", "Outputs") for tensor in about.get(key) or ())


def _layer(entry: Mapping[str, Any], about: Mapping[str, Any] | None) -> TimedLayer | None:
    time_us = 1e3 * float(entry.get("medianMs", entry.get("averageMs", 0)))
    if about is None or time_us <= 0 or not about.get("Inputs") or not about.get("Outputs"):
        return None
    name = str(entry["name"])
    image, out = (tuple(int(side) for side in about[key][0]["Dimensions"]) for key in ("Inputs", "Outputs"))
    dtype = _dtype(about)
    weights = int((about.get("Weights") or {}).get("Count", 0))
    if weights < 0:
        raise ValueError(f"layer {name!r} has {weights} weights")
    kernel = tuple(int(side) for side in about.get("Kernel") or ())
    layer_type = str(about.get("LayerType", "")).lower()
    sparse = bool(about.get("HasSparseWeights")) or "sparse" in str(about.get("TacticName", "")).lower()
    if kernel and weights and len(image) == len(out) == 2 + len(kernel):
        groups = max(1, int(about.get("Groups", 1)))
        if "deconv" in layer_type:
            matrix = transposed_conv_matrix((image[1], out[1] // groups, *kernel), image, out, groups)
        else:
            strides = [int(step) for step in about.get("Stride") or (1, 1)]
            matrix = convolution(image, (out[1], image[1] // groups, *kernel), out, groups, (strides[0], strides[-1]))
        return TimedLayer(name, product_kind(matrix, "Conv"), time_us, matrix, dtype=dtype, sparse=sparse)
    if weights and not kernel and out and not weights % out[-1] and prod(out) != weights:
        return dense(name, time_us, weights // out[-1], out[-1], prod(out) // out[-1], dtype)
    if any(word in layer_type for word in PRODUCTS):
        return None
    moved = (prod(image) + prod(out)) * WIDTH.get(dtype, 1)
    kind: OpKind = "pool" if "pool" in layer_type else "elementwise"
    return TimedLayer(name, kind, time_us, moved_bytes=moved, dtype=dtype)


def _dtype(about: Mapping[str, Any]) -> str:
    text = str(about["Inputs"][0].get("Format/Datatype", about["Inputs"][0].get("Datatype", ""))).lower()
    return next((dtype for word, dtype in DTYPES.items() if word in text), "")
