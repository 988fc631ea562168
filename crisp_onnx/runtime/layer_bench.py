"""Time every hybrid layer of a file alone against its dense self, with the layout conversions that it causes there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import onnx_graphsurgeon as gs

from crisp_onnx.model.read import read_graph
from crisp_onnx.progress import bar
from crisp_onnx.runtime.hybrid_nodes import hybrid_nodes
from crisp_onnx.runtime.layer_times import measure_layer
from crisp_onnx.runtime.library import load_library, which_kernel
from crisp_onnx.runtime.native import scan_model
from crisp_onnx.runtime.profit import Verdict, judge
from crisp_onnx.runtime.seams import dense_sides

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerComparison:
    """One hybrid layer, `kernel` the one that does most of it. A residual that it adds is left out of both times."""

    node: str
    kernel: str
    verdict: Verdict


@dataclass(frozen=True)
class LayerBench:
    """All layers at one thread count and batch; `obstacle`, a sentence, says why there are none."""

    threads: int
    batch: int
    layers: tuple[LayerComparison, ...] = ()
    obstacle: str = ""


def layers_alone(path: Path, *, threads: int = 1, batch: int = 1) -> LayerBench:
    """Measure every hybrid layer of `path`, in the order of the graph. Open image sides count as 224 pixels.

    Raises:
        CrispError: the file is missing or no model, or the shape of a layer's input cannot be inferred.
    """
    proto = read_graph(path)
    found = scan_model(proto)
    obstacle = found.against(load_library())
    if not found.hybrid_nodes:
        obstacle = f"{path.name} has no hybrid operators."
    if obstacle:
        return LayerBench(threads, batch, obstacle=obstacle)
    sides = dense_sides(gs.import_onnx(proto))
    nodes = hybrid_nodes(path, batch=batch)
    layers = []
    with bar("measuring layers", len(nodes)) as advance:
        for node in nodes:
            verdict = judge(measure_layer(node.case, threads=threads), dense_neighbours=sides.get(node.name, 0))
            log.debug("%s: %s", node.name, verdict.reason)
            gemm = len(node.case.input_shape) == 2
            rows, element = node.case.pattern.vector_rows, node.case.element
            kernel = which_kernel(rows, node.positions, gemm=gemm, element=element)
            layers.append(LayerComparison(node.name, kernel, verdict))
            advance(1)
    return LayerBench(threads, batch, tuple(layers))
