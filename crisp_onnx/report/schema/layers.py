"""What became of each weight layer, and of the order and the number of channels."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from crisp_onnx.report.schema.part import Count, Duration, Part, Positive, Share


class LayerFitEntry(Part):
    """A layer's re-fit, judged on images that it was not fitted to.

    `error_before`, `error_after`: RMS of what the layer's outputs miss of those of the dense network, over the RMS of
    the latter about their means. `ridge`: share of the mean square of the layer's inputs, null where weights stayed.
    """

    error_before: Duration
    error_after: Duration
    ridge: Duration | None


class LayerEntry(Part):
    """One weight layer. The pattern's fields are null in a dense layer, which says its reason instead.

    `shape` is (Cout, Cin per group, kh, kw) in the source; `shape_kept` after channels were removed, null where it is
    the same. A layer that is `collapsed` has lost all its channels and is not in the file. `macs`: of one image, dense;
    `macs_executed`: without the zeros that are skipped, which are those of hybrid operators. `density`: share of the
    weights kept. `bytes`: as stored in the compressed file, metadata included; `bytes_dense`: in the source file.
    `dense_ms`, `sparse_ms`: milliseconds of one call alone on this host, one thread, batch 1, the sparse one with the
    layout conversions that its neighbours cause; null where not measured. `fit`: how its weights were re-fitted, null
    where they were not. `precision`: of weights and activations; `precision_reason`: why it is float32 in an int8 file.
    `dense_float32_ms`, `sparse_float32_ms`: in an int8 file, the times in float32, where they were measured; the others
    are then those in int8.
    """

    name: str
    op: str
    weight: str
    shape: tuple[Positive, ...]
    shape_kept: tuple[Positive, ...] | None = None
    macs: Count
    macs_executed: Count
    decision: Literal["sparse", "dense", "collapsed"]
    reason: str = ""
    n: Positive | None = None
    m: Positive | None = None
    block: Positive | None = None
    vector_rows: Positive | None = None
    kept_blocks: Positive | None = None
    block_columns: Positive | None = None
    density: Share
    bytes: Count
    bytes_dense: Count
    dense_ms: Duration | None = None
    sparse_ms: Duration | None = None
    fit: LayerFitEntry | None = None
    precision: Literal["float32", "int8"] = "float32"
    precision_reason: str = ""
    dense_float32_ms: Duration | None = None
    sparse_float32_ms: Duration | None = None

    @model_validator(mode="after")
    def _pattern_or_reason(self) -> LayerEntry:
        pattern = (self.n, self.m, self.block, self.vector_rows, self.kept_blocks, self.block_columns)
        if self.decision == "sparse" and None in pattern:
            raise ValueError(f"sparse layer {self.name!r} needs its whole pattern")
        if self.decision != "sparse" and (any(figure is not None for figure in pattern) or not self.reason):
            raise ValueError(f"{self.decision} layer {self.name!r} has a reason and no pattern")
        return self


class ReorderedGroup(Part):
    """Channels that changed places together, `moved` of them. `gain`: share of all saliency that this alone added."""

    channels: Positive
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    moved: Count
    gain: float


class FrozenGroup(Part):
    """Channels of sparse layers that stay in their order, and why."""

    channels: Positive
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    reason: str


class Reordering(Part):
    """What the order of the channels is worth: shares of the saliency of all layers that may become sparse.

    `kept_before`, `kept_after`: what the planned masks keep of it in the order of the file and in the best one found.
    `reason`: why the order of the file stays; empty where channels were reordered. `worst_relative`: difference that
    the reordering makes in ONNX Runtime, over the largest output.
    """

    done: bool
    reason: str
    kept_before: Share
    kept_after: Share
    worst_relative: Duration | None
    groups: tuple[ReorderedGroup, ...] = ()
    frozen: tuple[FrozenGroup, ...] = ()

    @model_validator(mode="after")
    def _done_or_reason(self) -> Reordering:
        if self.done == bool(self.reason):
            raise ValueError("channels are reordered, or there is a reason why not")
        return self


class GroupWidth(Part):
    """A group of channels that live and die together: how many there were and are, and why none or all went."""

    channels: Positive
    kept: Count
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    reason: str = ""


class CollapsedChain(Part):
    """A chain of operators that has lost all its channels, up to the `layer` that read them; `into`: what is left."""

    layer: str
    into: str


class Channels(Part):
    """Channels that were removed. `macs_left`: share of the source's MACs that they left, before any zeros.

    `rounded_to`: widths that were changed are multiples of it. `worst_relative`: difference of the answers without the
    channels to those with zeros in place, over the largest output. `epochs`: of training that the narrower network had.
    `collapsed`: chains that went as a whole.
    """

    macs_left: Share
    rounded_to: Positive
    worst_relative: Duration
    epochs: Count
    groups: tuple[GroupWidth, ...]
    collapsed: tuple[CollapsedChain, ...] = ()
