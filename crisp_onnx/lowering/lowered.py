"""`crisp-lowered/1`: a model as one target sees it. The estimator reads this and the target, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crisp_onnx.errors import CrispError
from crisp_onnx.lowering.layer_sparsity import DENSE, UNSEEN, LayerSparsity, Seen
from crisp_onnx.lowering.matrix import Matrix
from crisp_onnx.lowering.memory import NOWHERE, Stay
from crisp_onnx.lowering.schema import Dtype, OpKind
from crisp_onnx.lowering.tiling import Tiling
from crisp_onnx.reading import read_text

LOWERED_SCHEMA = "crisp-lowered/1"
Order = Literal["plain", "groups", "last"]
MAX_BYTES = 64 << 20


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoweredOp(_Record):
    """One operator that costs time on its own.

    Products have `matrix`, `pattern` (as the weights are), `seen` (as the target runs it, with the reason) and
    `tiling`; the others only move `input_bytes` and `output_bytes`, a pool `taps` values for each that it gives,
    a transpose those of so many `axes`.
    `fused`: neighbours that run inside this operator, of the types `fused_ops`.
    `reads`: the operators whose outputs it takes, where they are known. `constant_bytes`: of tables and other constants
    that it reads first and that are no weights of a product.
    `activation_density`: nonzeros among the inputs; 1.0 unless it was measured. `dtype`: in which it is costed.
    `stay`: which of its activations are on the chip. `order`: that of the channels it takes, where a measured runtime
    has several.
    """

    name: str
    op: str
    kind: OpKind
    weight: str = ""
    matrix: Matrix | None = None
    pattern: LayerSparsity = DENSE
    seen: Seen = UNSEEN
    tiling: Tiling | None = None
    input_bytes: Annotated[int, Field(ge=0)]
    output_bytes: Annotated[int, Field(ge=0)]
    taps: Annotated[int, Field(ge=1)] = 1
    axes: Annotated[int, Field(ge=0)] = 0
    constant_bytes: Annotated[int, Field(ge=0)] = 0
    fused: tuple[str, ...] = ()
    fused_ops: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    activation_density: Annotated[float, Field(ge=0, le=1)] = 1.0
    dtype: Dtype | None = None
    stay: Stay = NOWHERE
    order: Order | None = None

    @property
    def dram_bytes(self) -> tuple[int, int]:
        """(read, written): of products as tiled, of others what is not on the chip."""
        if self.tiling is not None:
            return self.tiling.dram_read_bytes, self.tiling.dram_write_bytes
        return max(0, self.input_bytes - self.stay.read_bytes), 0 if self.stay.output else self.output_bytes

    @property
    def onchip_bytes(self) -> Fraction:
        """Between buffer and array; of operators without weights what is on the chip."""
        if self.tiling is not None:
            return self.tiling.onchip_bytes
        reads, writes = self.dram_bytes
        return Fraction(self.input_bytes - reads + self.output_bytes - writes)


class Totals(_Record):
    """Sums over the operators: `macs` of the dense model, `computed_macs` on this target, bytes."""

    operators: int
    macs: int
    computed_macs: int
    stored_weight_bytes: int
    metadata_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    onchip_bytes: int


class Source(_Record):
    """The lowered model: file name and SHA-256 of file and external data."""

    file: str
    sha256: str


class Lowered(_Record):
    """A whole `crisp-lowered/1` file. `dtype`: of the operators that the model computes in floats.

    `retyped`: a sentence where the target computes in another type than the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal["crisp-lowered/1"], Field(alias="schema")] = "crisp-lowered/1"
    target: str
    target_version: int
    target_sha256: str
    model: Source
    batch: Annotated[int, Field(ge=1)]
    dtype: Dtype
    notes: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    operators: tuple[LoweredOp, ...]
    totals: Totals
    peak_activation_bytes: int = 0

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """In which products are costed, that of most MACs first; where there are none, the type of the others."""
        macs: Counter[Dtype] = Counter()
        for op in self.operators:
            if op.matrix is not None:
                macs[op.dtype or self.dtype] += op.matrix.macs
        return tuple(dtype for dtype, _ in macs.most_common()) or (self.dtype,)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def totals(operators: tuple[LoweredOp, ...]) -> Totals:
    """Sums over `operators`."""
    tiled = [(op.matrix, op.tiling) for op in operators if op.matrix is not None and op.tiling is not None]
    loose = [op for op in operators if op.tiling is None]
    return Totals(
        operators=len(operators),
        macs=sum(matrix.macs for matrix, _ in tiled),
        computed_macs=sum(tiling.computed_macs for _, tiling in tiled),
        stored_weight_bytes=sum(tiling.stored_weight_bytes for _, tiling in tiled),
        metadata_bytes=sum(tiling.nm_metadata_bytes + tiling.block_metadata_bytes for _, tiling in tiled),
        dram_read_bytes=sum(t.dram_read_bytes for _, t in tiled) + sum(op.dram_bytes[0] for op in loose),
        dram_write_bytes=sum(t.dram_write_bytes for _, t in tiled) + sum(op.dram_bytes[1] for op in loose),
        onchip_bytes=sum(-(-tiling.onchip_bytes.numerator // tiling.onchip_bytes.denominator) for _, tiling in tiled),
    )


def read_lowered(path: Path) -> Lowered:
    """Read a file that `lower` wrote.

    Raises:
        CrispError: no such file, another schema, a damaged file, or one whose numbers no model has.
    """
    text = read_text(path, "lowered model", limit=MAX_BYTES)
    try:
        lowered = Lowered.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise CrispError(_no_lowered(path, ".".join(str(part) for part in first["loc"]), first["msg"])) from error
    for key, fault in _faults(lowered):
        raise CrispError(_no_lowered(path, key, fault))
    return lowered


def _no_lowered(path: Path, key: str, fault: str) -> str:
    return f"{path}, key {key or '(top)'}: {fault}. This is no {LOWERED_SCHEMA} file; run `crisp-onnx lower` again."


def _faults(lowered: Lowered) -> Iterator[tuple[str, str]]:
    """Keys of what no model has, each with what is wrong there."""
    yield from _below(lowered.model_dump(exclude={"operators"}), "")
    names: set[str] = set()
    for number, op in enumerate(lowered.operators):
        key = f"operators.{number}"
        if op.name in names:
            yield f"{key}.name", f"{op.name!r} is the name of another operator too"
        names.add(op.name)
        if (op.matrix is None) != (op.tiling is None):
            yield f"{key}.tiling", "a product has a matrix and its tiling, and nothing else has one of them"
        yield from _below(op.model_dump(), key)
        if op.matrix is not None:
            sides = {"M": op.matrix.M, "K": op.matrix.K, "N": op.matrix.N, "groups": op.matrix.groups}
            sides |= {"window": min(op.matrix.window), "out_hw": min(op.matrix.out_hw)}
            yield from ((f"{key}.matrix.{name}", "is 0") for name, side in sides.items() if side == 0)
            if op.pattern.has_blocks and op.pattern.block_cols == 0:
                yield f"{key}.pattern.block_cols", "is 0, and blocks have rows"


def _below(part: object, key: str) -> Iterator[tuple[str, str]]:
    """Keys of the numbers inside `part` that are below 0: all of them count something."""
    if isinstance(part, dict):
        for name, inner in part.items():
            yield from _below(inner, f"{key}.{name}" if key else name)
    elif isinstance(part, (list, tuple)):
        for number, inner in enumerate(part):
            yield from _below(inner, f"{key}.{number}")
    elif isinstance(part, (int, float)) and not part >= 0:
        yield key, f"{part} is less than nothing"
