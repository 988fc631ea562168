"""How large a graph a file holds or stands for by its local functions, and that graph written out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import onnx
from onnx import inliner

from crisp_onnx.errors import CrispError
from crisp_onnx.model.skeleton import nodes, nodes_in, skeleton, with_weights
from crisp_onnx.model.spec import Model
from crisp_onnx.reading import border, shown

MAX_NODES = 50_000
MAX_DEPTH = 100
log = logging.getLogger(__name__)
_Key: TypeAlias = tuple[str, str, str]


def require_few_nodes(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse more nodes than are worked on in minutes, and functions that call themselves or stand for so many.

    Thirty functions, each of which calls the one before it twice, are two kilobytes and a billion nodes.

    Raises:
        CrispError: over 50,000 nodes, functions in over 100 levels, or a function that calls itself.
    """
    held = sum(1 for _ in nodes(proto))
    if held > MAX_NODES:
        raise CrispError(
            f"{shown(str(path))} holds {held:,} nodes, and at most {MAX_NODES:,} are worked on. Simplify it."
        )
    if not proto.functions:
        return
    calls = {(f.domain, f.name, f.overload): _calls(f.node) for f in proto.functions}
    size: dict[_Key, int] = {}
    depth: dict[_Key, int] = {}
    for key in _callees_first(calls, path):
        size[key] = sum(count * size.get(callee, 1) for callee, count in calls[key].items())
        depth[key] = 1 + max((depth[callee] for callee in calls[key] if callee in depth), default=0)
    whole = sum(count * size.get(key, 1) for key, count in _calls(proto.graph.node).items())
    if whole > MAX_NODES or max(depth.values()) > MAX_DEPTH:
        raise CrispError(
            f"The local functions of {path} stand for {whole:.3g} nodes in {max(depth.values())} levels, more than can "
            "be written out. Export the model without nested functions."
        )


def inlined(model: Model, *, but: str = "") -> Model:
    """The model with its local functions written out where they are called, those of the domain `but` excepted.

    Raises:
        CrispError: a function cannot be written out at the model's opset.
    """
    kept = [function for function in model.proto.functions if function.domain == but]
    count = len(model.proto.functions) - len(kept)
    if not count:
        return model
    bare = skeleton(model.proto, hints=False)
    chosen = [function for function in bare.functions if function.domain != but]
    del bare.functions[:]
    bare.functions.extend(chosen)
    with border(f"The local functions of {model.path.name} cannot be written out", "Export the model without them."):
        bare = inliner.inline_local_functions(bare, convert_version=True)
    bare.functions.extend(kept)
    whole = with_weights(bare, model.proto)
    for output, declared in zip(whole.graph.output, model.proto.graph.output, strict=True):
        output.type.CopyFrom(declared.type)
    log.debug("wrote out %d local functions", count)
    return replace(model, proto=whole)


def _callees_first(calls: Mapping[_Key, Mapping[_Key, int]], path: Path) -> Iterator[_Key]:
    """Every function once, behind those that it calls."""
    done: set[_Key] = set()
    for first in calls:
        chain = [(first, iter(calls[first]))] if first not in done else []
        active = {first}
        while chain:
            key, callees = chain[-1]
            callee = next((c for c in callees if c in calls and c not in done), None)
            if callee is None:
                chain.pop()
                active.discard(key)
                done.add(key)
                yield key
            elif callee in active:
                raise CrispError(f"Function {shown(callee[1])!r} of {path} calls itself. Export the model again.")
            else:
                chain.append((callee, iter(calls[callee])))
                active.add(callee)


def _calls(body: Iterable[onnx.NodeProto]) -> Counter[_Key]:
    """How often each operator or function is called, graphs inside nodes included."""
    return Counter((node.domain, node.op_type, node.overload) for node in nodes_in(body))
