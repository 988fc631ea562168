"""Judge every hybrid layer of a model on this machine, each beside the neighbours that it will really have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_graphsurgeon as gs

from crisp_onnx.errors import CrispError
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, tensor_shapes
from crisp_onnx.progress import bar
from crisp_onnx.runtime.hybrid_nodes import nodes_of
from crisp_onnx.runtime.layer_times import LayerTimes
from crisp_onnx.runtime.library import load_library, require_isa
from crisp_onnx.runtime.native import scan_model
from crisp_onnx.runtime.profit import Verdict, judge, most_blocks, profitable
from crisp_onnx.runtime.seams import dense_sides


@dataclass(frozen=True)
class HostChoice:
    """What was decided about the hybrid layers of a model, by node name.

    `times`, `kept`: of one call, and with how many blocks of every block row. `dense`: layers that are to be dense
    whatever their times say. Nothing was timed where `obstacle`, a sentence, says why it could not.
    """

    graph: gs.Graph
    times: Mapping[str, LayerTimes] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    dense: frozenset[str] = frozenset()
    obstacle: str = ""

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdicts that agree with one another: a layer left dense puts a seam before and behind those beside it."""
        dense = self.dense
        while True:
            sides = dense_sides(self.graph, dense)
            verdicts = {name: judge(found, dense_neighbours=sides.get(name, 0)) for name, found in self.times.items()}
            slower = dense | {name for name, verdict in verdicts.items() if not verdict.sparse}
            if slower == dense:
                return verdicts
            dense = slower

    @property
    def slower(self) -> dict[str, str]:
        """Reason by node name, for the layers that are not faster sparse."""
        return {name: verdict.reason for name, verdict in self.verdicts.items() if not verdict.sparse}

    @property
    def most_blocks(self) -> dict[str, int]:
        """How many blocks a layer that is faster sparse may keep, by node name (see `profit.most_blocks`)."""
        return {
            name: most_blocks(self.kept[name], verdict) for name, verdict in self.verdicts.items() if verdict.sparse
        }


def judge_layers(model: Model, *, size: Size = DEFAULT_SIZE) -> HostChoice:
    """Time every hybrid layer at batch 1 on one thread and judge it. Open image sides count as those of `size`.

    Times are remembered on disk (see `profit.known_times`); a new layer takes a few hundred milliseconds.

    Raises:
        CrispError: CRISP_ONNX_ISA names no instruction set of this host.
    """
    scan, graph = scan_model(model.proto), model.graph()
    obstacle = scan.against(load_library())
    if obstacle or not scan.hybrid_nodes:
        return HostChoice(graph, obstacle=obstacle)
    require_isa()
    times: dict[str, LayerTimes] = {}
    try:
        nodes = nodes_of(graph, tensor_shapes(model, size=size), where=model.path.name)
        with bar("timing layers", len(nodes)) as advance:
            for node in nodes:
                times[node.name] = profitable(node.case).times
                advance(1)
    except CrispError as error:
        return HostChoice(graph, obstacle=str(error))
    return HostChoice(graph, times, {node.name: node.case.kept for node in nodes})
