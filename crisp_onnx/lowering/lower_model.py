"""Lower an ONNX model to a target: what each operator becomes there, in tiles and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layers import lower_layers
from crisp_onnx.lowering.lowered import Lowered, Source
from crisp_onnx.lowering.read_layers import read_layers
from crisp_onnx.lowering.target import Target, load_target
from crisp_onnx.lowering.written_out import written_out
from crisp_onnx.model import DEFAULT_SIZE, Model, Size, height_and_width, tensor_shapes, write_files


def lower(
    model: Model,
    target: Target | str | Path,
    *,
    batch: int = 1,
    size: int | Size = DEFAULT_SIZE,
    dtype: str | None = None,
    densities: Mapping[str, float] | None = None,
) -> Lowered:
    """`model`, dense or emitted with hybrid operators, as `target` sees it.

    `size`: pixels of open image sides, one number or height and width. `dtype`: int8, fp16 or fp32; the target's first
    type if not given. `densities`: share of nonzeros among the inputs, by node name; 1 where not given.

    Raises:
        CrispError: unknown target, a local function that cannot be written out, or no operator could be read.
    """
    chosen = target if isinstance(target, Target) else load_target(target)
    model = written_out(model)
    layers, notes = read_layers(model, tensor_shapes(model, batch=batch, size=height_and_width(size)), chosen.runs)
    if densities:
        layers = [replace(layer, activation_density=densities.get(layer.name, 1.0)) for layer in layers]
    if not layers:
        raise CrispError(f"{model.path.name} has nothing to lower: {_nothing(notes)}.")
    return lower_layers(
        layers,
        chosen,
        source=Source(file=model.path.name, sha256=model.sha256),
        batch=batch,
        dtype=dtype,
        notes=tuple(notes),
    )


def _nothing(notes: Sequence[str]) -> str:
    """Why no operator was read; the first three reasons of many."""
    if not notes:
        return "it holds no operator that takes any time"
    return "; ".join(notes[:3]) + (f"; and {len(notes) - 3} more" if len(notes) > 3 else "")


def lowered_path(model_path: Path, target: Target) -> Path:
    """`model.<target>.json` beside the model."""
    return model_path.with_name(f"{model_path.stem}.{target.name}.json")


def write_lowered(lowered: Lowered, path: Path) -> None:
    """Write the `crisp-lowered/1` file atomically."""
    write_files({path: lowered.to_json().encode()})


def lowered_json_schema() -> str:
    """The JSON Schema of `crisp-lowered/1`."""
    return json.dumps(Lowered.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
