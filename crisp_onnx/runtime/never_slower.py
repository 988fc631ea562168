"""Judge every hybrid layer of a model on this machine, each beside the neighbours that it will really have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crisp_onnx.errors import CrispError
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, tensor_shapes
from crisp_onnx.progress import bar
from crisp_onnx.runtime.hybrid_nodes import nodes_of
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.library import load_library
from crisp_onnx.runtime.native import scan_model
from crisp_onnx.runtime.profit import Verdict, judge, profitable
from crisp_onnx.runtime.seams import dense_sides


@dataclass(frozen=True)
class HostChoice:
    """`verdicts` by node name; none were made where `obstacle`, a sentence, says why nothing could be measured."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def slower(self) -> dict[str, str]:
        """Reason by node name, for the layers that are not faster sparse."""
        return {name: verdict.reason for name, verdict in self.verdicts.items() if not verdict.sparse}


def judge_layers(model: Model, *, size: Size = DEFAULT_SIZE) -> HostChoice:
    """Time every hybrid layer at batch 1 on one thread and judge it. Open image sides count as those of `size`.

    Times are remembered on disk (see `profit.known_times`); a new layer takes a few hundred milliseconds.

    Raises:
        CrispError: CRISP_ONNX_ISA names no instruction set of this host.
    """
    scan = scan_model(model.proto)
    obstacle = scan.reason or load_library().reason
    if obstacle or not scan.hybrid_nodes:
        return HostChoice(obstacle=obstacle)
    try:
        nodes = nodes_of(model.graph(), tensor_shapes(model, size=size), where=model.path.name)
    except CrispError as error:
        return HostChoice(obstacle=str(error))
    times = {}
    with bar("timing layers", len(nodes)) as advance:
        for node in nodes:
            times[node.name] = profitable(node.case).times
            advance(1)
    return HostChoice(_settle(model, times))


def _settle(model: Model, times: Mapping[str, LayerTimes]) -> dict[str, Verdict]:
    """Verdicts that agree with one another: a layer left dense puts a seam before and behind the layers beside it."""
    graph = model.graph()
    dense: frozenset[str] = frozenset()
    while True:
        sides = dense_sides(graph, dense)
        verdicts = {name: judge(found, dense_neighbours=sides.get(name, 0)) for name, found in times.items()}
        slower = dense | {name for name, verdict in verdicts.items() if not verdict.sparse}
        if slower == dense:
            return verdicts
        dense = slower
