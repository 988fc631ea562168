"""Feed the kernels corrupted layers: every one must run or fail with an error that names the node. Also a script:

python corrupt.py LIBRARY ROUNDS SEED
(under AddressSanitizer: LD_PRELOAD="libasan.so libstdc++.so.6" ASAN_OPTIONS=detect_leaks=0)
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hybrid_layer import Layer, model_of, open_session, random_layer
from int8_layer import Int8Layer, int8_model, random_bytes, random_int8_layer

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 5, 8, 16, 17, 64, 255, 256, 2**20, 2**31 - 1, 2**31, 2**62)
SHAPES = ((32, 24, 3, 3), (20, 16, 1, 1), (40, 9, 5, 1), (16, 64, 1, 1), (16, 9, 1, 1))
Corruption = Callable[[np.random.Generator, dict[str, Any], dict[str, np.ndarray]], None]


def scalar_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    attrs[str(rng.choice(["n", "m", "block", "vector_rows", "index_bits"]))] = int(NUMBERS[rng.integers(len(NUMBERS))])


def list_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    lists = [key for key, value in attrs.items() if isinstance(value, list)]
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
    attrs[str(rng.choice(["lower", "upper"]))] = float(rng.choice([np.nan, np.inf, -np.inf, 1e38, 0.0]))


def missing_attribute(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    del attrs[str(rng.choice(list(attrs)))]


def tensor_bytes(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = str(rng.choice(list(tensors)))
    raw = bytearray(tensors[name].tobytes())
    for _ in range(int(rng.integers(1, 4))):
        raw[rng.integers(len(raw))] = int(rng.integers(256))
    tensors[name] = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)


def tensor_shape(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = str(rng.choice(list(tensors)))
    if tensors[name].ndim == 0:
        tensors[name] = np.repeat(tensors[name], int(rng.integers(3)))
        return
    axis = int(rng.integers(tensors[name].ndim))
    keep = int(rng.integers(0, tensors[name].shape[axis] + 1))
    cut = np.take(tensors[name], np.arange(keep), axis)
    tensors[name] = cut if rng.random() < 0.7 else np.concatenate([tensors[name], cut], axis)


def tensor_rank_or_type(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    name = str(rng.choice(list(tensors)))
    with np.errstate(invalid="ignore"):
        changed = tensors[name].astype(rng.choice(["f4", "f8", "u1", "i4", "i8"]))
    tensors[name] = changed.reshape(-1) if rng.random() < 0.4 else changed


def blocks(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    found = np.atleast_2d(tensors["blocks"].astype(np.int32))
    found[rng.integers(found.shape[0]), rng.integers(found.shape[1])] = int(rng.choice(NUMBERS[1:-2]))
    tensors["blocks"] = found if rng.random() < 0.7 else found[:, ::-1].copy()


def not_finite(rng: np.random.Generator, attrs: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    real = [name for name in ("values", "bias", "x_scale", "w_scale", "y_scale") if name in tensors]
    name = str(rng.choice(real))
    changed = np.atleast_1d(tensors[name].astype(np.float32))
    changed.reshape(-1)[rng.integers(changed.size)] = rng.choice([np.nan, np.inf, -np.inf])
    tensors[name] = changed


CORRUPTIONS: tuple[Corruption, ...] = (
    scalar_attribute, list_attribute, bound, missing_attribute, tensor_bytes, tensor_shape, tensor_rank_or_type,
    blocks, not_finite,
)  # fmt: skip


def corrupted_runs(library: Path, rounds: int, seed: int) -> collections.Counter[str]:
    """Run `rounds` corrupted layers, half of them of int8. Returns how many ran and how many failed at load or at run.

    Raises:
        AssertionError: an error does not name the node.
    """
    rng = np.random.default_rng(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(rounds):
        shape = SHAPES[rng.integers(len(SHAPES))]
        gemm, int8 = shape[2:] == (1, 1) and rng.random() < 0.4, rng.random() < 0.5
        pads = (0, 0, 0, 0) if gemm else tuple(int(pad) for pad in rng.integers(0, 3, 4))
        op = f"Hybrid{'Q' if int8 else ''}{'Gemm' if gemm else 'Conv'}"
        options: dict[str, Any] = {"vector_rows": int(rng.choice([1, 4, 8])), "op": op, "pads": pads}
        base = random_int8_layer(rng, shape, block=16, **options) if int8 else random_layer(rng, shape, **options)
        attrs, tensors = dict(base.attrs), dict(base.tensors)
        for _ in range(int(rng.integers(1, 3))):
            if all(array.size for array in tensors.values()):
                CORRUPTIONS[rng.integers(len(CORRUPTIONS))](rng, attrs, tensors)
        outcomes[outcome(Layer(op, attrs, tensors), shape, library, rng)] += 1
    return outcomes


def outcome(layer: Layer, shape: tuple[int, ...], library: Path, rng: np.random.Generator) -> str:
    """'ran', 'refused at load' or 'refused at run'."""
    channels = shape[1] if rng.random() < 0.9 else int(rng.integers(0, 80))
    side = int(rng.integers(1, 14))
    int8 = "Q" in layer.op
    x_shape = (3, channels) if layer.op.endswith("Gemm") else (1, channels, side, side)
    stage = "refused at load"
    try:
        rank = len(x_shape)
        model = (
            int8_model(Int8Layer(layer.op, layer.attrs, layer.tensors), rank=rank)
            if int8
            else model_of(layer, rank=rank)
        )
        if rng.random() < 0.5:  # a known shape is carried through the operator when the session loads
            for axis, extent in enumerate(x_shape):
                model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
        session = open_session(model, library)
        stage = "refused at run"
        x = random_bytes(rng, x_shape) if int8 else rng.standard_normal(x_shape, dtype=np.float32)
        session.run(None, {"X": x})
    except Exception as error:  # onnxruntime raises a type per error code
        assert "layer0" in str(error), f"an error that does not name the node: {error}"
        return stage
    return "ran"


if __name__ == "__main__":
    print(dict(corrupted_runs(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
