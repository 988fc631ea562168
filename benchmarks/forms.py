"""The files in which one seeded network is timed: dense and hybrid, in float32 and in int8.

Our int8 form is chosen as `compress --precision int8` chooses it; theirs is ONNX Runtime's own static quantisation of
the dense network. Both are calibrated on the same few seeded images, which decide scales and not speed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.network import CLASSES, Sparsity
from benchmarks.topologies import TOPOLOGIES
from crisp_onnx.data import Images
from crisp_onnx.data.values import AsIs, ValueStore
from crisp_onnx.model import load, save
from crisp_onnx.model.shapes import with_value_info
from crisp_onnx.quantize import Emission, choose, faster_in_float32, faster_whole
from crisp_onnx.runtime.never_slower import judge_layers
from crisp_onnx.task import Classification

Form = Literal["dense", "hybrid", "dense-int8", "hybrid-int8"]
FORMS: tuple[Form, ...] = get_args(Form)
SIZE = (224, 224)
CALIBRATION_IMAGES = 4


class _SeededReader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"x": image[None]}


def write_forms(network: str, sparsity: Sparsity, folder: Path) -> dict[Form, Path]:
    """Form -> file, in `folder`, which must be there."""
    paths = {form: folder / f"{form}.onnx" for form in FORMS}
    for form, hybrid in (("dense", False), ("hybrid", True)):
        write_float(network, sparsity, folder / f"{form}.onnx", hybrid=hybrid)
    quantize_theirs(paths["dense"], paths["dense-int8"])
    quantize_ours(paths["dense"], paths["hybrid"], paths["hybrid-int8"])
    return paths


def write_float(network: str, sparsity: Sparsity, path: Path, *, hybrid: bool) -> None:
    """The network in float32, its weights in a file beside it."""
    model = TOPOLOGIES[network](sparsity, hybrid=hybrid)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.data")


def quantize_theirs(dense: Path, target: Path) -> None:
    """`dense` by ONNX Runtime's static quantiser, with a scale for every row of a weight."""
    quantize_static(
        dense,
        target,
        _SeededReader(seeded_images()),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def quantize_ours(dense: Path, hybrid: Path, target: Path, *, also_kept: Collection[str] = ()) -> None:
    """`hybrid` as `compress --precision int8` would write it, calibrated on the dense form of the same network.

    `also_kept`: layers that stay in float32 whatever their times are.
    """
    whole, packed = (with_value_info(load(path)) for path in (dense, hybrid))
    output = whole.outputs[0].name
    every = tuple(range(CLASSES))
    task = Classification(every, every, output, output)
    of_ours = faster_whole(packed, size=SIZE)
    _, keep = faster_in_float32(packed, judge_layers(packed, size=SIZE).verdicts, of_ours, size=SIZE)
    keep |= dict.fromkeys(also_kept, "to be timed in float32")
    emission = Emission(packed, whole, task, SIZE, batch=None, whole=of_ours)
    save(choose(emission, _images(), None, keep=keep).quantised.model, target)


def seeded_images() -> np.ndarray:
    """(n, 3, 224, 224), standard normal."""
    return np.random.default_rng(0).standard_normal((CALIBRATION_IMAGES, 3, *SIZE), dtype=np.float32)


def _images() -> Images:
    store = ValueStore(seeded_images(), "seeded noise")
    shape = (3, *SIZE)
    return Images(store, np.arange(CALIBRATION_IMAGES), None, AsIs(shape, np.dtype(np.float32), SIZE), "seeded noise")
