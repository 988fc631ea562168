"""`Model`: an ONNX graph with what every stage asks of it: input, output, opset, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper
from onnx_graphsurgeon.logger import G_LOGGER

from crisp_onnx.errors import CrispError
from crisp_onnx.model.overridable import overridable
from crisp_onnx.model.single_nodes import compare_by_identity
from crisp_onnx.model.skeleton import describe, nodes

# Graphsurgeon prints its warnings to stdout, where only results belong; its errors arrive as exceptions.
G_LOGGER.severity = G_LOGGER.CRITICAL + 1

DEFAULT_DOMAIN = ("", "ai.onnx")
Layout: TypeAlias = Literal["NCHW", "NHWC"]
Size: TypeAlias = tuple[int, int]
"""Height and width of an image in pixels."""
DEFAULT_SIZE: Size = (224, 224)
OPEN_CHANNELS = 3
MAX_VALUES = 1 << 28


def height_and_width(size: int | Size) -> Size:
    """`size`, or a square of that side."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (`None` where the size is open) and element type of a graph input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[np.generic]

    @property
    def layout(self) -> Layout | None:
        """Where the channels of an image input are; None for an input that has not four axes."""
        if len(self.shape) != 4:
            return None
        _, first, second, last = self.shape
        if first in (1, 3):
            return "NCHW"
        if last in (1, 3):
            return "NHWC"
        return "NHWC" if first is second is None and last is not None else "NCHW"

    def takes(self, size: Size) -> bool:
        """Whether images of `size` go in, by the sides that it fixes; of no image, whether any length is open."""
        sides = {"NCHW": self.shape[2:], "NHWC": self.shape[1:3]}.get(self.layout or "")
        if sides is None:
            return None in self.shape[1:]
        return all(own in (None, given) for own, given in zip(sides, size, strict=True))

    def fixed(self, batch: int, size: Size = DEFAULT_SIZE) -> tuple[int, ...]:
        """`filled`, of a length that can be held in memory.

        Raises:
            CrispError: the input declares more values than any model takes.
        """
        shape = self.filled(batch, size)
        if prod(shape) > MAX_VALUES:
            raise CrispError(
                f"Input {self.name!r} takes {'x'.join(map(str, shape))} values, more than {MAX_VALUES >> 20} Mi. "
                "Correct its shape, or say a smaller size."
            )
        return shape

    def filled(self, batch: int, size: Size = DEFAULT_SIZE) -> tuple[int, ...]:
        """The shape with its open axes filled in: `batch`, three channels, and the sides of an image of `size`.

        An open axis of an input that is no image counts as the width.
        """
        height, width = size
        filled = {"NCHW": (batch, OPEN_CHANNELS, height, width), "NHWC": (batch, height, width, OPEN_CHANNELS)}
        lengths = filled[self.layout] if self.layout else (batch, *[width] * (len(self.shape) - 1))
        return tuple(own or given for own, given in zip(self.shape, lengths, strict=False))


@dataclass(frozen=True)
class Model:
    """A loaded classifier. `proto` holds all weights in memory.

    `sha256` and `file_bytes` are those of the file as it was read, its external data (`data_files`) included.
    """

    proto: onnx.ModelProto
    path: Path
    sha256: str
    file_bytes: int = 0
    data_files: tuple[Path, ...] = ()

    @property
    def opset(self) -> int:
        return int(next(o.version for o in self.proto.opset_import if o.domain in DEFAULT_DOMAIN))

    @property
    def input(self) -> TensorSpec:
        """The one input that is not a weight."""
        stored = {t.name for t in self.proto.graph.initializer}
        specs = [_spec(v) for v in self.proto.graph.input if v.name not in stored]
        if len(specs) != 1:
            names = ", ".join(repr(s.name) for s in specs) or "none"
            read = {name for node in nodes(self.proto) for name in node.input}
            idle = [repr(s.name) for s in specs if s.name not in read]
            if specs and len(specs) - len(idle) == 1:
                raise CrispError(
                    f"{self.path.name} has {len(specs)} inputs ({names}), but nothing reads {', '.join(idle)}. Take it "
                    "out of the graph, for ONNX Runtime asks every caller for it."
                )
            raise CrispError(
                f"{self.path.name} has {len(specs)} inputs ({names}); one image input is needed. "
                "Export the model with a single input."
            )
        return _with_channels(specs[0], self.proto.graph)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Every output that is a tensor, in the order of the file."""
        return tuple(_spec(value) for value in self.proto.graph.output if value.type.HasField("tensor_type"))

    @property
    def metadata(self) -> dict[str, str]:
        return {p.key: p.value for p in self.proto.metadata_props}

    def graph(self) -> gs.Graph:
        """A fresh editable copy of the graph; changing it leaves this model as it is.

        Stored values that a caller may override are inputs of it, behind the others, and no constants.

        Raises:
            CrispError: the graph holds types or names that graphsurgeon cannot represent.
        """
        try:
            graph = gs.import_onnx(self.proto)
        except Exception as error:  # graphsurgeon raises many types without a common base
            raise self._unreadable(error) from error
        _name_nodes(graph)
        compare_by_identity(graph)
        # Graphsurgeon takes every initializer for a constant, and none for an input.
        tensors = graph.tensors()
        graph.inputs = [*graph.inputs, *(_as_input(t, tensors) for t in overridable(self.proto).values())]
        return graph

    @cached_property
    def view(self) -> gs.Graph:
        """The graph to look at, the same one for all who do: it must not be changed.

        Stored values that are asked for stay in memory beside those of the file; weights are read from `graph()`.

        Raises:
            CrispError: as `graph()`.
        """
        return self.graph()

    def with_graph(self, graph: gs.Graph) -> Model:
        """The same model with another graph; metadata and functions of the file are kept."""
        # export_onnx keeps functions and drops the rest of what a file says of itself.
        try:
            proto = gs.export_onnx(graph, do_type_check=False)
        except (ValueError, TypeError) as error:  # names and dimensions that are no text
            raise self._unreadable(error) from error
        inputs = {value.name for value in proto.graph.input}
        proto.graph.initializer.extend(t for name, t in overridable(self.proto).items() if name in inputs)
        untensored = {v.name: v for v in self.proto.graph.output if not v.type.HasField("tensor_type")}
        for value in proto.graph.output:
            if value.name in untensored and untensored[value.name].type.WhichOneof("value"):
                value.CopyFrom(untensored[value.name])  # graphsurgeon knows no maps and sequences
        proto.ir_version = max(self.proto.ir_version, 8)
        describe(proto, self.proto)
        return replace(self, proto=proto)

    def _unreadable(self, error: Exception) -> CrispError:
        reason = (str(error).strip().splitlines() or [""])[0]
        return CrispError(
            f"{self.path.name} holds what cannot be read as a graph ({type(error).__name__}: {reason}): an unknown "
            "element type or a damaged name. Export it again."
        )

    def with_functions(self, functions: Sequence[onnx.FunctionProto], domain: str, version: int) -> Model:
        """The same model carrying local functions of `domain`; without any it need not know the domain."""
        if not functions:
            return self
        proto = _copy(self.proto)
        proto.functions.extend(functions)
        if not any(o.domain == domain for o in proto.opset_import):
            proto.opset_import.append(helper.make_opsetid(domain, version))
        return replace(self, proto=proto)

    def with_metadata(self, entries: Mapping[str, str], *, without: Sequence[str] = ()) -> Model:
        """The same model with `entries` added to its metadata, equal keys replaced, and the keys `without` left out."""
        proto = _copy(self.proto)
        kept = {p.key: p.value for p in proto.metadata_props if p.key not in without} | dict(entries)
        del proto.metadata_props[:]
        helper.set_model_props(proto, kept)
        return replace(self, proto=proto)


def _as_input(stored: onnx.TensorProto, tensors: Mapping[str, gs.Tensor]) -> gs.Variable:
    given = gs.Variable(stored.name, numpy_dtype(stored.data_type, stored.name), list(stored.dims))
    constant = tensors.get(stored.name)
    for node in list(constant.outputs) if constant is not None else ():
        for place, tensor in enumerate(node.inputs):
            if tensor is constant:
                node.inputs[place] = given
    return given


def _name_nodes(graph: gs.Graph) -> None:
    """Give every node a name of its own: plans and reports speak of nodes by name, and ONNX lets names repeat."""
    taken = {node.name for node in graph.nodes}
    seen: set[str] = set()
    for number, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            wanted = f"{node.name or node.op}_{number}"
            while wanted in taken:
                wanted += "_"
            node.name = wanted
            taken.add(wanted)
        seen.add(node.name)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def numpy_dtype(elem_type: int, name: str) -> np.dtype[np.generic]:
    """The NumPy type of the tensor `name`.

    Raises:
        CrispError: the file gives it none, or one that ONNX does not know.
    """
    try:
        return helper.tensor_dtype_to_np_dtype(elem_type)
    except KeyError:
        raise CrispError(f"Tensor {name!r} has no element type that ONNX knows. Export the model again.") from None


def _with_channels(spec: TensorSpec, graph: onnx.GraphProto) -> TensorSpec:
    """`spec` with the channels that the first convolution reads, where the file leaves every axis of an image open.

    A Transpose on the way says that they are the last axis of the input.
    """
    if len(spec.shape) != 4 or any(side is not None for side in spec.shape[1:]):
        return spec
    stored = {tensor.name: tensor for tensor in graph.initializer}
    name, axis = spec.name, 1
    for node in graph.node:
        if name not in node.input or node.op_type == "Shape":
            continue
        if node.op_type == "Conv":
            weight = stored.get(node.input[1])
            group = next((int(a.i) for a in node.attribute if a.name == "group"), 1)
            if weight is None or node.input[0] != name or len(weight.dims) != 4:
                return spec
            shape = list(spec.shape)
            shape[axis] = weight.dims[1] * group
            return replace(spec, shape=tuple(shape))
        if node.op_type == "Transpose":
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [3, 2, 1, 0])
            axis = _FROM_LAST if order == [0, 3, 1, 2] and axis == 1 else 0
        elif node.op_type not in _ELEMENT_BY_ELEMENT:
            return spec
        if not axis:
            return spec
        name = node.output[0]
    return spec


_FROM_LAST = 3
_ELEMENT_BY_ELEMENT = frozenset({"Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Sub"})


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise CrispError(f"{value.name!r} is not a tensor. Only models with tensor inputs and outputs are supported.")
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    return TensorSpec(value.name, dims, numpy_dtype(tensor.elem_type, value.name))
