"""`GraphModule`: the nodes of an ONNX graph run in order as one torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from crisp_onnx.bridge.execute import run_node
from crisp_onnx.bridge.handlers.norm import shared_batch_norm, train_batch_norm
from crisp_onnx.bridge.node import Node
from crisp_onnx.bridge.value import Host, Value, to_tensor
from crisp_onnx.errors import CrispError
from crisp_onnx.processes import ALONE, Processes

# Keys of buffers that no ONNX tensor stands for.
MASK_SUFFIX = "::mask"
BATCHES = "::batches"


Lens = Callable[[Tensor], Tensor]
"""What the readers of a tensor see instead of it, of the same shape."""
Steps = tuple[tuple[Node, tuple[str, ...]], ...]
"""Nodes in order, and after each the names that no later one reads."""


class GraphModule(nn.Module):
    """An ONNX graph as a torch module; `dict(module.named_parameters())` has the exact initializer names as keys.

    In training mode BatchNorm normalises by the batch and moves its running statistics, which are buffers under their
    initializer names (`statistics` lists them). `bn_momentum` is the weight of the newest batch; `None` averages
    all batches seen since it was set to `None`. `takes` is the only number of images that the graph runs on, `None` for
    any: a shorter batch is filled up with its own images, and their answers are cut off again. `processes`: those that
    have a share of each batch in training.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        parameters: Mapping[str, Tensor],
        statistics: Mapping[str, Tensor],
        fixed: Mapping[str, Tensor],
        hosts: Mapping[str, Host],
    ) -> None:
        super().__init__()
        self.nodes = tuple(nodes)
        self.input_names = tuple(inputs)
        self.output_names = tuple(outputs)
        self.statistics = tuple(statistics)
        self._hosts = dict(hosts)
        self._mask_keys: dict[str, str] = {}
        self._lenses: dict[str, Lens] = {}
        self._steps: Steps = tuple(zip(self.nodes, _last_use(self.nodes), strict=True))
        self._stretches: dict[tuple[frozenset[str], tuple[str, ...]], Steps] = {}
        # ONNX names hold dots and slashes, which register_parameter() refuses.
        for name, value in parameters.items():
            self._parameters[name] = nn.Parameter(value)
        for name, value in (*statistics.items(), *fixed.items()):
            self._buffers[name] = value
        self._buffers[BATCHES] = torch.zeros(())
        self._bn_momentum: float | None = 0.1
        self.takes: int | None = None
        self.processes: Processes = ALONE

    @property
    def bn_momentum(self) -> float | None:
        return self._bn_momentum

    @bn_momentum.setter
    def bn_momentum(self, momentum: float | None) -> None:
        self._bn_momentum = momentum
        self._buffer(BATCHES).zero_()

    def forward(self, x: Tensor) -> Tensor:
        """The first output for the one input `x`, in the layout of the file (images: (batch, channels, h, w))."""
        return self.several(x, self.output_names[:1])[0]

    def several(self, x: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
        """Any tensors of the graph for the one input `x`; unlike `run`, this compiles."""
        if len(self.input_names) != 1:
            raise CrispError(f"The graph has {len(self.input_names)} inputs; call run() with all of them by name.")
        found = self._execute({self.input_names[0]: x}, names)
        return tuple(found[name] for name in names)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tensors by name: those in `outputs` (any tensor of the graph), or all outputs of the graph.

        `inputs` may be inner tensors: in eval mode only the nodes between them and `outputs` run. Where the graph
        `takes` a number of images, inner tensors are those of so many.

        Raises:
            CrispError: an input is missing, or no tensor has one of the names.
        """
        wanted = self.output_names if outputs is None else tuple(outputs)
        between = (frozenset(inputs), wanted)
        if between not in self._stretches:
            self._stretches[between] = self._stretch(*between)
        return self._execute(dict(inputs), wanted, None if self.training else self._stretches[between])

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Multiply the named weights by 0/1 masks of the stored weights' shapes wherever they are read.

        Gradients pass the mask as if it were not there (straight-through), so that a removed weight shows whether it
        is missed. Setting a mask again changes it in place: compiled code stays valid.

        Raises:
            CrispError: no such parameter, or a mask of another shape.
        """
        for name, mask in masks.items():
            weight = self._parameters.get(name)
            if weight is None:
                raise CrispError(f"Cannot mask {name!r}: the graph has no parameter of that name.")
            if mask.shape != weight.shape:
                raise CrispError(f"The mask of {name!r} has shape {tuple(mask.shape)}, not {tuple(weight.shape)}.")
            key = name + MASK_SUFFIX
            if name in self._mask_keys:
                self._buffer(key).copy_(mask)
            else:
                self._buffers[key] = mask.to(device=weight.device, dtype=torch.bool, copy=True)
                self._mask_keys[name] = key

    def clear_masks(self) -> None:
        for key in self._mask_keys.values():
            del self._buffers[key]
        self._mask_keys.clear()

    def set_lenses(self, lenses: Mapping[str, Lens]) -> None:
        """Let what reads the named tensors see them through a function each, weights behind their masks.

        Takes the place of former lenses. Training mode and eval mode are alike.
        """
        self._lenses = dict(lenses)

    @property
    def lenses(self) -> Mapping[str, Lens]:
        """The lenses that there are, by the name of the tensor."""
        return MappingProxyType(self._lenses)

    @property
    def masks(self) -> dict[str, Tensor]:
        """The mask (bool, shape of the weight) by weight name."""
        return {name: self._buffer(key) for name, key in self._mask_keys.items()}

    def get_statistic(self, name: str) -> Tensor:
        """The running mean or variance of that initializer name, one of `statistics`."""
        return self._buffer(name)

    def _execute(
        self, values: Mapping[str, Tensor], wanted: Sequence[str], steps: Steps | None = None
    ) -> dict[str, Tensor]:
        batch = next((values[name] for name in self.input_names[:1] if name in values), None)
        if self.takes is None or batch is None or len(batch) == self.takes:
            return self._answer(values, wanted, steps)
        given = len(batch)
        if given > self.takes or given == 0:
            raise CrispError(f"The graph takes {self.takes} images at a time; it was given {given}.")
        rows = torch.arange(self.takes) % given
        answers = self._answer({name: value[rows.to(value.device)] for name, value in values.items()}, wanted, steps)
        return {name: value[:given] if len(value) == self.takes else value for name, value in answers.items()}

    def _stretch(self, given: frozenset[str], wanted: Sequence[str]) -> Steps:
        """The nodes that compute `wanted` from `given`, and after each the names that none of the others reads."""
        needed = set(wanted) - given
        chosen: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                chosen.append(node)
                needed = (needed - set(node.outputs)) | {name for name in node.inputs if name and name not in given}
        missing = [name for name in self.input_names if name in needed]
        if missing:
            raise CrispError(f"Inputs {', '.join(map(repr, missing))} are missing.")
        nodes = tuple(reversed(chosen))
        return tuple(zip(nodes, _last_use(nodes), strict=True))

    def _answer(
        self, values: Mapping[str, Value], wanted: Sequence[str], steps: Steps | None = None
    ) -> dict[str, Tensor]:
        live = dict(values)
        device = next((v.device for v in live.values() if isinstance(v, Tensor)), torch.device("cpu"))
        keep = set(wanted)
        momentum = self._next_momentum() if self.training else 0.0
        for node, last in self._steps if steps is None else steps:
            inputs = [self._read(name, live) for name in node.inputs]
            if torch.compiler.is_compiling():
                results = self._run(node, inputs, momentum, device)
            else:
                results = self._run_guarded(node, inputs, momentum, device)
            for name, value in zip(node.outputs, results, strict=False):
                live[name] = value
            for name in last:
                if name not in keep:
                    live.pop(name, None)
        return {name: to_tensor(self._found(name, live), device) for name in wanted}

    def _run(
        self, node: Node, inputs: Sequence[Value | None], momentum: float | Tensor, device: torch.device
    ) -> Sequence[Value]:
        own = node.op == "BatchNormalization" and all(name in self.statistics for name in node.inputs[3:5])
        if self.training and own and not node.integer("training_mode", 0):
            tensors = [t for t in inputs if isinstance(t, Tensor)]
            if self.processes.count > 1:
                return (shared_batch_norm(node, self.processes, momentum, *tensors),)
            return (train_batch_norm(node, momentum, *tensors),)
        return run_node(node, inputs, device)

    def _run_guarded(
        self, node: Node, inputs: Sequence[Value | None], momentum: float | Tensor, device: torch.device
    ) -> Sequence[Value]:
        try:
            return self._run(node, inputs, momentum, device)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in inputs if isinstance(t, Tensor))
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise node.refusal(f"torch fails on inputs of shapes {shapes} ({first})") from error

    def _next_momentum(self) -> float | Tensor:
        if self._bn_momentum is not None:
            return self._bn_momentum
        batches = self._buffer(BATCHES)
        batches.add_(1)
        return batches.reciprocal()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # torch takes the part of a key before its first dot for a submodule; here it is part of an ONNX name.
        super()._load_from_state_dict(state_dict, prefix, local_metadata, False, [], [], error_msgs)
        if strict:
            own = {prefix + name for name in (*self._parameters, *self._buffers)}
            missing_keys += sorted(own - state_dict.keys())
            unexpected_keys += sorted(key for key in state_dict if key.startswith(prefix) and key not in own)

    def _found(self, name: str, live: Mapping[str, Value]) -> Value:
        value = self._read(name, live)
        if value is None:
            raise CrispError(f"The graph has no tensor {name!r}.")
        return value

    def _read(self, name: str, live: Mapping[str, Value]) -> Value | None:
        value = self._value(name, live)
        lens = self._lenses.get(name)
        return value if lens is None or not isinstance(value, Tensor) else lens(value)

    def _value(self, name: str, live: Mapping[str, Value]) -> Value | None:
        if name in live:
            return live[name]
        if name in self._hosts:
            return self._hosts[name]
        weight = self._parameters.get(name)
        if weight is None:
            return self._buffers.get(name)
        if name not in self._mask_keys:
            return weight
        mask = self._buffer(self._mask_keys[name])
        return weight + (weight * mask - weight).detach()

    def _buffer(self, key: str) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None:
            raise CrispError(f"The module has no buffer {key!r}.")
        return buffer


def _last_use(nodes: Sequence[Node]) -> tuple[tuple[str, ...], ...]:
    """Per node, the names that no later node reads."""
    seen: set[str] = set()
    result: list[tuple[str, ...]] = []
    for node in reversed(nodes):
        names = {name for name in (*node.inputs, *node.outputs) if name} - seen
        result.append(tuple(sorted(names)))
        seen |= names
    return tuple(reversed(result))
