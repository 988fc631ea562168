"""The files that the sides run: every form of one network, and the dense one with its zeros anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.forms import quantize_theirs, write_forms
from benchmarks.network import Sparsity


def write_models(network: str, sparsity: Sparsity, folder: Path) -> Mapping[str, Path]:
    """Form -> file: those of `write_forms`, `unstructured` and `unstructured-int8`."""
    paths = write_forms(network, sparsity, folder)
    scattered = {form: folder / f"{form}.onnx" for form in ("unstructured", "unstructured-int8")}
    dense = onnx.load(paths["dense"])
    scatter_zeros(dense)
    onnx.save(dense, scattered["unstructured"])
    quantize_theirs(scattered["unstructured"], scattered["unstructured-int8"])
    return {**paths, **scattered}


def scatter_zeros(model: onnx.ModelProto, seed: int = 0) -> None:
    """Move every weight's non-zeros to random places: the same share of zeros, without structure."""
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight"):
            weight = numpy_helper.to_array(tensor)
            if (weight == 0).any():
                moved = rng.permutation(weight.reshape(-1)).reshape(weight.shape)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
