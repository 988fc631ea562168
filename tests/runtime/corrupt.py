"""Feed the kernels corrupted layers: every one must run or fail with an error that names the node. Also a script:

python corrupt.py LIBRARY ROUNDS SEED [all or bytes, the operators on bytes alone]
(under AddressSanitizer: LD_PRELOAD="libasan.so libstdc++.so.6" ASAN_OPTIONS=detect_leaks=0)
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hybrid_layer import Layer, model_of, open_session, random_layer
from int8_layer import (
    Int8Layer,
    depthwise_attributes,
    depthwise_tensors,
    int8_model,
    random_bytes,
    random_int8_layer,
)
from onnx import AttributeProto, ModelProto, helper

from crisp_onnx.format.operators import BYTE_OPERATORS, DEPTHWISE, HYBRID_OPS, MAX_POOL, TABLE

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 5, 8, 16, 17, 64, 255, 256, 2**20, 2**31 - 1, 2**31, 2**62)
SHAPES = ((32, 24, 3, 3), (20, 16, 1, 1), (40, 9, 5, 1), (16, 64, 1, 1), (16, 9, 1, 1))
Corruption = Callable[[np.random.Generator, dict[str, Any], dict[str, np.ndarray]], None]


def scalar_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    scalars = [key for key, value in attrs.items() if isinstance(value, int)]
    if scalars:
        attrs[str(rng.choice(scalars))] = int(NUMBERS[rng.integers(len(NUMBERS))])


def list_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    lists = [key for key, value in attrs.items() if isinstance(value, (list, tuple))]
    if not lists:
        return
    name = str(rng.choice(lists))
    values = list(attrs[name])
    if rng.random() < 0.2:
        values = values[:-1] if rng.random() < 0.5 else [*values, 1]
    else:
        values[rng.integers(len(values))] = int(NUMBERS[rng.integers(len(NUMBERS))])
    attrs[name] = values


def bound(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    if "lower" in attrs:
        attrs[str(rng.choice(["lower", "upper"]))] = float(rng.choice([np.nan, np.inf, -np.inf, 1e38, 0.0]))


def missing_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    if attrs:
        del attrs[str(rng.choice(list(attrs)))]


def _stored(rng: np.random.Generator, tensors: dict[str, np.ndarray]) -> str:
    """The name of an initializer; the residual is none."""
    return str(rng.choice([name for name in tensors if name != "Z_in"]))


def tensor_bytes(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = _stored(rng, tensors)
    if not tensors[name].size:
        return
    raw = bytearray(tensors[name].tobytes())
    for _ in range(int(rng.integers(1, 4))):
        raw[rng.integers(len(raw))] = int(rng.integers(256))
    tensors[name] = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)


def tensor_shape(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = _stored(rng, tensors)
    if tensors[name].ndim == 0:
        tensors[name] = np.repeat(tensors[name], int(rng.integers(3)))
        return
    axis = int(rng.integers(tensors[name].ndim))
    keep = int(rng.integers(0, tensors[name].shape[axis] + 1))
    cut = np.take(tensors[name], np.arange(keep), axis)
    tensors[name] = cut if rng.random() < 0.7 else np.concatenate([tensors[name], cut], axis)


def tensor_rank_or_type(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = _stored(rng, tensors)
    with np.errstate(invalid="ignore"):
        changed = tensors[name].astype(rng.choice(["f4", "f8", "u1", "i4", "i8"]))
    tensors[name] = changed.reshape(-1) if rng.random() < 0.4 else changed


def blocks(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    if not tensors.get("blocks", np.empty(0)).size:
        return
    found = np.atleast_2d(tensors["blocks"].astype(np.int32))
    found[rng.integers(found.shape[0]), rng.integers(found.shape[1])] = int(rng.choice(NUMBERS[1:-2]))
    tensors["blocks"] = found if rng.random() < 0.7 else found[:, ::-1].copy()


def not_finite(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    real = [name for name in ("values", "bias", "x_scale", "w_scale", "y_scale") if tensors.get(name, np.empty(0)).size]
    if not real:
        return
    name = str(rng.choice(real))
    changed = np.atleast_1d(tensors[name].astype(np.float32))
    changed.reshape(-1)[rng.integers(changed.size)] = rng.choice([np.nan, np.inf, -np.inf])
    tensors[name] = changed


OF_ATTRIBUTES: tuple[Corruption, ...] = (scalar_attribute, list_attribute, bound, missing_attribute)
OF_TENSORS: tuple[Corruption, ...] = (tensor_bytes, tensor_shape, tensor_rank_or_type, blocks, not_finite)


@dataclass(frozen=True)
class Sound:
    """A layer before it is corrupted, with the shapes of an input and, where it adds one, of a residual for it."""

    op: str
    attrs: dict[str, Any]
    tensors: dict[str, np.ndarray]
    x_shape: tuple[int, ...]
    z_shape: tuple[int, ...] = ()


def hybrid(rng: np.random.Generator, op: str) -> Sound:
    gemm, int8, add = op.endswith("Gemm"), "Q" in op, op.endswith("Add")
    shapes = [shape for shape in SHAPES if not gemm or shape[2:] == (1, 1)]
    shape = shapes[rng.integers(len(shapes))]
    pads = (0, 0, 0, 0) if gemm else tuple(int(pad) for pad in rng.integers(0, 3, 4))
    options: dict[str, Any] = {"vector_rows": int(rng.choice([1, 4, 8])), "op": op, "pads": pads}
    base = random_int8_layer(rng, shape, block=16, **options) if int8 else random_layer(rng, shape, **options)
    channels = shape[1] if rng.random() < 0.9 else int(rng.integers(0, 80))
    height, width = (int(side) for side in rng.integers(1, 14, 2))
    if gemm:
        return Sound(op, base.attrs, base.tensors, (3, channels))
    out = (height + pads[0] + pads[2] - shape[2] + 1, width + pads[1] + pads[3] - shape[3] + 1)
    z_shape = (1, shape[0], max(out[0], 1), max(out[1], 1)) if add else ()
    return Sound(op, base.attrs, base.tensors, (1, channels, height, width), z_shape)


def depthwise(rng: np.random.Generator, op: str) -> Sound:
    """Of one step a row of the kernel and of two, for the kernels of outputs side by side and for plain loops."""
    channels = int(rng.integers(1, 9))
    kernel_h, kernel_w = (int(n) for n in rng.integers(1, 8, 2))
    stride_h, stride_w, dilation_h, dilation_w = (int(n) for n in rng.choice([1, 1, 2, 2, 3, 5], 4))
    kernel, pads = (kernel_h, kernel_w), tuple(int(pad) for pad in rng.integers(0, 4, 4))
    attrs = depthwise_attributes(channels, kernel, (stride_h, stride_w), pads, (dilation_h, dilation_w))
    largest = 14 if rng.random() < 0.5 else 70
    sides = tuple(int(side) for side in rng.integers(1, largest, 2))
    return Sound(op, attrs, depthwise_tensors(rng, channels, kernel), (int(rng.integers(1, 3)), channels, *sides))


def table(rng: np.random.Generator, op: str) -> Sound:
    largest = 9 if rng.random() < 0.5 else 40
    return Sound(op, {}, {"table": rng.permutation(256).astype(np.uint8)}, tuple(rng.integers(0, largest, 3).tolist()))


def pool(rng: np.random.Generator, op: str) -> Sound:
    kernel, strides = rng.integers(1, 4, 2).tolist(), rng.integers(1, 4, 2).tolist()
    attrs = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": [int(rng.integers(0, kernel[i % 2])) for i in range(4)],
    }
    return Sound(op, attrs, {}, (2, int(rng.integers(1, 9)), *_sides(rng)))


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    height, width = rng.integers(1, 14, 2)
    return int(height), int(width)


OPERATORS: dict[str, Callable[[np.random.Generator, str], Sound]] = {
    **dict.fromkeys(HYBRID_OPS, hybrid),
    DEPTHWISE: depthwise,
    TABLE: table,
    MAX_POOL: pool,
}


def corrupted_runs(
    library: Path, rounds: int, seed: int, operators: Sequence[str] = tuple(OPERATORS)
) -> collections.Counter[tuple[str, str]]:
    """Run `rounds` corrupted layers, of each operator in turn. Returns how many of it ran and failed at load or at run.

    Raises:
        AssertionError: an error does not name the node.
    """
    rng = np.random.default_rng(seed)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    for number in range(rounds):
        op = operators[number % len(operators)]
        sound = OPERATORS[op](rng, op)
        attrs, tensors = dict(sound.attrs), dict(sound.tensors)
        for _ in range(int(rng.integers(1, 3))):
            possible = OF_ATTRIBUTES + (OF_TENSORS if tensors else ())
            possible[rng.integers(len(possible))](rng, attrs, tensors)
        outcomes[op, outcome(Sound(op, attrs, tensors, sound.x_shape, sound.z_shape), library, rng)] += 1
    return outcomes


def outcome(layer: Sound, library: Path, rng: np.random.Generator) -> str:
    """'ran', 'refused at load' or 'refused at run'."""
    int8, rank = "Q" in layer.op, len(layer.x_shape)
    stage = "refused at load"
    try:
        attrs = {key: value for key, value in layer.attrs.items() if value != []}
        if int8:
            model = int8_model(Int8Layer(layer.op, attrs, layer.tensors), rank=rank)
        else:
            model = model_of(Layer(layer.op, attrs, layer.tensors), rank=rank)
        _add_empty(model, layer.attrs.keys() - attrs.keys())
        if rng.random() < 0.5:  # a known shape is carried through the operator when the session loads
            for axis, extent in enumerate(layer.x_shape):
                model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
        session = open_session(model, library)
        stage = "refused at run"
        shapes = dict(zip((given.name for given in session.get_inputs()), (layer.x_shape, layer.z_shape), strict=False))
        feed = {
            name: random_bytes(rng, shape) if int8 else rng.standard_normal(shape, dtype=np.float32)
            for name, shape in shapes.items()
        }
        session.run(None, feed)
    except Exception as error:  # onnxruntime raises a type per error code
        assert "layer0" in str(error), f"an error that does not name the node: {error}"
        return stage
    return "ran"


def _add_empty(model: ModelProto, names: Iterable[str]) -> None:
    """Attributes that are lists of nothing, whose type `make_node` cannot tell."""
    (node,) = (node for node in model.graph.node if node.name == "layer0")
    node.attribute.extend(helper.make_attribute(name, [], attr_type=AttributeProto.INTS) for name in sorted(names))


if __name__ == "__main__":
    chosen = BYTE_OPERATORS if sys.argv[4:] == ["bytes"] else tuple(OPERATORS)
    found = corrupted_runs(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), chosen)
    for (op, what), count in sorted(found.items()):
        print(op, what, count)
