"""Which share of each layer's inputs is not zero on the user's images: `estimate --data`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from crisp_onnx.api.words import find_form
from crisp_onnx.data.sources import is_class_folder, open_unlabelled
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model
from crisp_onnx.model.answers import open_model

MOST_IMAGES = 32
PRODUCTS = ("Conv", "Gemm", "MatMul", "HybridConv", "HybridConvAdd", "HybridGemm")
ON_BYTES = (
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "HybridQConv", "HybridQConvAdd",
    "HybridQGemm",
)  # fmt: skip
ZERO_POINT = 2
"""The input of all of those that says which byte is zero."""


def measured_densities(model: Model, data: Path, preprocess: str | None = None) -> Mapping[str, float]:
    """Share of nonzeros among the inputs of every product, by node name, on up to 32 images.

    Of products on bytes, those count as zero that the zero point names; where it is not stored, they are left out.

    Raises:
        CrispError: the data cannot be read, or the model does not run.
    """
    graph = model.graph()
    given = {tensor.name for tensor in graph.inputs}
    zeros = {node.name: zero for node in graph.nodes if (zero := _zero(node)) is not None}
    reads = {node.name: node.inputs[0].name for node in graph.nodes if node.name in zeros}
    zero_of = {name: zeros[node] for node, name in reads.items()}
    wanted = sorted({name for name in reads.values() if name not in given})
    nonzero, total = dict.fromkeys((*wanted, model.input.name), 0), dict.fromkeys((*wanted, model.input.name), 0)
    try:
        runner = open_model(model, wanted)
        for batch in _batches(model, data, preprocess):
            values = {**(runner.run({model.input.name: batch}, wanted) if wanted else {}), model.input.name: batch}
            for name, value in values.items():
                nonzero[name] += int(np.count_nonzero(value != zero_of.get(name, 0)))
                total[name] += int(value.size)
    except CrispError:
        raise
    except Exception as error:  # onnxruntime raises many types
        raise CrispError(f"{model.path.name} does not run on {data}: {error}. Check --preprocess.") from error
    return {node: nonzero[name] / total[name] for node, name in reads.items() if total.get(name)}


def _zero(node: gs.Node) -> int | None:
    """What counts as zero among the data of a product; `None` of other operators, and where the model does not say."""
    if not node.inputs or node.op not in (*PRODUCTS, *ON_BYTES):
        return None
    if node.op in PRODUCTS or len(node.inputs) <= ZERO_POINT or node.inputs[ZERO_POINT].is_empty():
        return 0
    point = node.inputs[ZERO_POINT]
    return int(np.asarray(point.values).ravel()[0]) if isinstance(point, gs.Constant) else None


def _batches(model: Model, data: Path, preprocess: str | None) -> Iterator[npt.NDArray[Any]]:
    """Images one at a time, spread over the folders of `data` where it has some; what they show does not matter."""
    form = find_form(preprocess, model, data)
    folders = sorted(path for path in data.iterdir() if path.is_dir()) if is_class_folder(data) else []
    if {"images", "labels"} <= {folder.name for folder in folders}:  # of segmentation: labels are images too
        folders = [data / "images"]
    for folder in folders or [data]:
        images = open_unlabelled(folder, form)
        count = max(1, MOST_IMAGES // max(1, len(folders)))
        for pixels, _ in images.subset(np.arange(min(count, len(images)))).batches(1):
            yield pixels
