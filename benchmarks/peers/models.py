"""The files that the sides run: hybrid, dense, quantised, and sparse without structure, of one network and one seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.network import Sparsity
from benchmarks.topologies import TOPOLOGIES

CALIBRATION_IMAGES = 4


class SeededImages(CalibrationDataReader):  # type: ignore[misc]
    """Standard normal images: calibration decides scales, not speed."""

    def __init__(self, side: int = 224) -> None:
        rng = np.random.default_rng(0)
        shape = (1, 3, side, side)
        self._images = iter([rng.standard_normal(shape, dtype=np.float32) for _ in range(CALIBRATION_IMAGES)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"x": image}


def write_models(network: str, sparsity: Sparsity, folder: Path) -> dict[str, Path]:
    """Form -> file: hybrid, dense, int8, unstructured."""
    paths = {form: folder / f"{form}.onnx" for form in ("hybrid", "dense", "int8", "unstructured")}
    dense = TOPOLOGIES[network](sparsity, hybrid=False)
    onnx.save(TOPOLOGIES[network](sparsity, hybrid=True), paths["hybrid"])
    onnx.save(dense, paths["dense"])
    quantize_static(
        paths["dense"],
        paths["int8"],
        SeededImages(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    scatter_zeros(dense)
    onnx.save(dense, paths["unstructured"])
    return paths


def scatter_zeros(model: onnx.ModelProto, seed: int = 0) -> None:
    """Move every weight's non-zeros to random places: the same share of zeros, without structure."""
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight"):
            weight = numpy_helper.to_array(tensor)
            if (weight == 0).any():
                moved = rng.permutation(weight.reshape(-1)).reshape(weight.shape)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
