"""A model in int8: its hybrid layers by our operators, the rest by ONNX Runtime's quantiser, bytes flowing between."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from crisp_onnx.format import DOMAIN, with_bodies
from crisp_onnx.format.node import Grid, is_hybrid
from crisp_onnx.model import Model, Size
from crisp_onnx.passes import (
    ByteDepthwise,
    BytePools,
    ByteTables,
    Declined,
    JoinBytes,
    KeepReals,
    QuantiseHybrid,
    RealAnswers,
    run_passes,
)
from crisp_onnx.passes.byte_tables import FUNCTIONS
from crisp_onnx.passes.fuse_activation import bounds_of
from crisp_onnx.passes.real_answers import leads_to_answers
from crisp_onnx.quantize.clear_names import clear_names, restore_ends
from crisp_onnx.quantize.crossings import on_bytes, with_parts
from crisp_onnx.quantize.dense import (
    INT8_OPS,
    WEIGHTED,
    quantise_dense,
    reason_against,
    shared_grids,
    with_renamed_outputs,
)
from crisp_onnx.quantize.flat_biases import with_flat_biases
from crisp_onnx.quantize.grids import STEPS, grid_of
from crisp_onnx.quantize.own_tensors import with_own_tensors
from crisp_onnx.quantize.whole import pack_whole

ANY_GRID = Grid(0.02, 128)


@dataclass(frozen=True)
class Quantised:
    """`model`: with its bodies. `layers`: the weight layers in int8, by node name; `left`: why others are not."""

    model: Model
    layers: tuple[str, ...]
    left: Mapping[str, str]
    declined: tuple[Declined, ...] = ()


def quantised_tensors(graph: gs.Graph) -> tuple[str, ...]:
    """The tensors of real numbers that may become bytes: what hybrid and other int8 operators read and write."""
    names: dict[str, None] = {}
    for node in graph.nodes:
        if is_hybrid(node) or (node.domain in (None, "", "ai.onnx") and node.op in INT8_OPS):
            for tensor in (*node.inputs, *node.outputs):
                if isinstance(tensor, gs.Variable) and not tensor.is_empty() and tensor.dtype == np.float32:
                    names[tensor.name] = None
    return tuple(names)


def rehearsed(model: Model, *, size: Size) -> Quantised:
    """`model` in int8 on grids that mean nothing: what can be computed so, and how long it takes.

    Raises:
        CrispError: ONNX Runtime's quantiser fails.
    """
    graph = model.graph()
    grids = dict.fromkeys(quantised_tensors(graph), ANY_GRID)
    bounds = {node.outputs[0].name: bounds_of(node) for node in graph.nodes if node.op == "Clip"}
    grids |= {name: _within(*found) for name, found in bounds.items() if found is not None and name in grids}
    return quantise_model(model, grids, size=size)


def _within(lower: float, upper: float) -> Grid:
    """As `ANY_GRID`, between the bounds of a Clip."""
    ends = (-ANY_GRID.zero * ANY_GRID.scale, (STEPS - ANY_GRID.zero) * ANY_GRID.scale)
    return grid_of(max(lower, ends[0]), min(upper, ends[1]))


def quantise_model(
    model: Model,
    grids: Mapping[str, Grid],
    *,
    size: Size,
    keep: Mapping[str, str] | None = None,
    whole: Collection[str] = (),
) -> Quantised:
    """`model`, emitted in float32, in int8.

    `grids`: of the tensors that `quantised_tensors` names. `keep`: layers that stay in real numbers, by node name, and
    why. `whole`: ordinary convolutions that our kernels are to compute (see `faster_whole`).

    Raises:
        CrispError: ONNX Runtime's quantiser fails.
    """
    keep = keep or {}
    bare = _without_bodies(model)
    graph = bare.graph()
    pack_whole(bare, graph, set(whole) - keep.keys())
    with_flat_biases(graph)
    renamed = clear_names(graph)
    shared = shared_grids(graph, {renamed.get(name, name): grid for name, grid in grids.items()})
    hybrid = [node.name for node in graph.nodes if is_hybrid(node)]
    dense, refused = _ordinary_on_bytes(graph, shared, keep)
    weighted = {node.name for node in graph.nodes if node.op in WEIGHTED}
    with_own_tensors(graph, dense)
    named = with_bodies(bare.with_graph(graph))  # the quantiser knows nodes by their names alone
    written = quantise_dense(named, dense, shared, size=size)
    graph = _without_bodies(written).graph()
    between = (ByteTables(), ByteDepthwise(), ByteTables()) if hybrid else ()
    passes = (
        QuantiseHybrid([name for name in hybrid if name not in keep], with_renamed_outputs(graph, shared)),
        BytePools(),
        JoinBytes(),
        *between,
        RealAnswers(),
        KeepReals(),
    )
    declined = run_passes(passes, graph)
    restore_ends(graph, renamed)
    left = refused | {place.node: place.reason for place in declined if place.pass_name == QuantiseHybrid.name}
    left |= keep
    done = tuple(name for name in (*hybrid, *dense) if name not in left and (name in hybrid or name in weighted))
    return Quantised(with_bodies(_without_bodies(written).with_graph(graph)), done, left, declined)


def _ordinary_on_bytes(
    graph: gs.Graph, grids: Mapping[str, Grid], keep: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """The ordinary nodes of `graph` that ONNX Runtime is to compute on bytes, and why other weight layers are not."""
    hybrid = {node.name for node in graph.nodes if is_hybrid(node)}
    refused = {node.name: reason_against(node, grids) for node in graph.nodes if node.name not in hybrid}
    ends = {id(tensor) for tensor in graph.outputs}
    last = {n.name for n in graph.nodes if n.op in ("Clip", "Relu") and leads_to_answers(n.outputs[0], ends)}
    able = [name for name, refusal in refused.items() if not refusal and name not in keep and name not in last]
    weighted = {node.name for node in graph.nodes if node.op in WEIGHTED}
    stored = {node.name for node in graph.nodes if any(isinstance(tensor, gs.Constant) for tensor in node.inputs[:2])}
    layers = (hybrid - set(keep)) | (set(able) & weighted)
    tables = {node.name for node in graph.nodes if node.op in FUNCTIONS and node.outputs[0].name in grids} - last
    joined = on_bytes(graph, layers, (set(able) - weighted) | tables)
    joined |= with_parts(graph, joined | layers, set(able) - weighted)
    dense = [name for name in able if name in weighted or name in joined]
    return dense, {name: refusal for name, refusal in refused.items() if name in weighted & stored and refusal}


def _without_bodies(model: Model) -> Model:
    """The same graph without local functions of our own, which `with_bodies` gives it again."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    kept = [function for function in proto.functions if function.domain != DOMAIN]
    del proto.functions[:]
    proto.functions.extend(kept)
    return replace(model, proto=proto)
