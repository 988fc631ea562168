"""`Report`: everything a run says about itself, as `report.json` version `crisp-report/1` holds it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown

if TYPE_CHECKING:
    from crisp_onnx.runtime.latency import Timing

_NO_UNICODE = re.compile("[\ud800-\udfff]")  # bytes of file names as Python carries them
VERSION: Literal["crisp-report/1"] = "crisp-report/1"

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Duration = Annotated[float, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """What every part of the report is: frozen, finite, and without room for unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class ClassEntry(Part):
    """One class of the user: its output index in the source model, and its name."""

    index: Count
    name: str


class Score(Part):
    """Shares of images answered rightly: over all outputs, and with the logits restricted to the user's classes."""

    top1: Share | None = None
    top1_restricted: Share | None = None


class Accuracy(Part):
    """Accuracy of both models on the same `n` images; all null with `n` 0 and a reason when not measured."""

    dense: Score = Score()
    compressed: Score = Score()
    n: Count = 0
    source: Literal["evaluation images", "held-out training images", "not measured"] = "not measured"
    reason: str = ""

    @model_validator(mode="after")
    def _measured_or_reason(self) -> Accuracy:
        figures = (*self.dense.model_dump().values(), *self.compressed.model_dump().values())
        if self.source == "not measured":
            if self.n or any(figure is not None for figure in figures):
                raise ValueError("accuracy that was not measured must be null, with n = 0")
            if not self.reason:
                raise ValueError("accuracy that was not measured needs a reason")
        elif not self.n or any(figure is None for figure in figures):
            raise ValueError("measured accuracy needs all four figures and n > 0")
        return self


class Interval(Part):
    """95 % interval: the percentile bootstrap over images."""

    low: float
    high: float


class OverlapScore(Part):
    """Mean intersection over union of the user's classes, over all images, and the share of their pixels that is right.

    `restricted`: the scores restricted to the user's classes, on pixels of these. Otherwise over all outputs, where
    pixels of other classes that are answered with one of the user's count in its union.
    """

    mean_iou_restricted: Share
    mean_iou_restricted_interval: Interval
    mean_iou: Share
    mean_iou_interval: Interval
    pixel_accuracy_restricted: Share
    pixel_accuracy: Share


class ClassOverlap(Part):
    """Intersection over union of one class, restricted; null where it is neither shown nor answered."""

    index: Count
    name: str
    dense: Share | None
    compressed: Share | None


class Segmentation(Part):
    """Both models on the same `n` images, pixel by pixel.

    `change`: 95 % interval of the restricted mean IoU of the compressed model less that of the dense one, on the same
    drawn images. Of all `pixels`, as many as the answers have, `judged` are of the user's classes and `ignored` are
    labelled 255; `agreement`: judged pixels to which both give one class of the user's.
    """

    dense: OverlapScore
    compressed: OverlapScore
    change: Interval
    classes: tuple[ClassOverlap, ...]
    n: Positive
    pixels: Positive
    judged: Count
    ignored: Count
    agreement: Count
    source: Literal["evaluation images", "held-out training images"]


class Sparsity(Part):
    """Shares of weights that are zero: of the sparse layers, which is what --sparsity asks for; and of all layers."""

    weights: Share
    all_weights: Share


class Macs(Part):
    """Multiply-accumulates of one image, and shares of `dense`.

    `kept`: executed, in hybrid operators by the native kernels, which skip the zeros; ordinary operators execute all of
    theirs. `nonzero`: those with a weight that is not zero, which an engine executes that finds every zero itself.
    `beside`: outside of the weight layers, where nothing is pruned; they are among all three. `beside_kept`: what is
    left of those where channels were removed, null elsewhere.
    """

    dense: Count
    beside: Count = 0
    beside_kept: Count | None = None
    kept: Count
    kept_ratio: Share
    nonzero: Count
    nonzero_ratio: Share

    @model_validator(mode="after")
    def _ratios_of_the_counts(self) -> Macs:
        for name in ("kept", "nonzero"):
            share, count = getattr(self, f"{name}_ratio"), getattr(self, name)
            if self.dense and abs(share - count / self.dense) > 1e-6:
                raise ValueError(f"{name}_ratio is {share}, but {name} / dense is {count / self.dense}")
        return self


class FileSizes(Part):
    """Bytes on disk with external data. `bytes_formula`: the format's formula plus the tensors left dense."""

    bytes_dense: Count
    bytes: Count
    bytes_formula: Count


class Equivalence(Part):
    """Outputs of the written file against those of the masked dense graph, on `images` images.

    `worst_relative` in stock ONNX Runtime, `native_worst_relative` with the native kernels (null: they did not run).
    """

    worst_relative: Duration
    native_worst_relative: Duration | None
    images: Positive


class Quantisation(Part):
    """How the network became int8.

    `method`: how the ranges of tensors were found on `calibration_images`: `range`, `percentile` or `error`, the one
    that lost least. `points_lost`: right answers among the user's classes against the same network in float32, in
    points (negative: won), on `judged` images, and without labels those that changed; `error`: RMS of the difference
    between the scores over that of the scores. `layers`: in int8; `layers_float32`: weight layers that are not.
    `epochs`: of training with rounding in the loop. `worst_step`, `share_equal`: what the native kernels give in each
    int8 layer against its function body, worst of all layers: steps of the output, and share of equal values (null:
    they did not run).
    """

    method: str
    calibration_images: Positive
    points_lost: float
    error: Duration
    judged: Positive
    judged_on: str
    layers: Count
    layers_float32: Count
    epochs: Count = 0
    worst_step: Count | None = None
    share_equal: Share | None = None


class Side(Part):
    """Milliseconds of one run of one model: median, 10th and 90th percentile."""

    median_ms: Duration
    p10_ms: Duration
    p90_ms: Duration


class Latency(Part):
    """Both models in turn on one host. `ratio_*`: dense time over compressed time, round by round."""

    dense: Side
    compressed: Side
    ratio_median: Duration
    ratio_p10: Duration
    ratio_p90: Duration
    threads: Positive
    batch: Positive
    runtime: str
    noisy: bool
    note: str = ""


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
    """A group of channels that live and die together: how many there were and are, and why none went."""

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


class Declined(Part):
    """A node that a rewriting pass left as it was."""

    pass_name: str
    node: str
    reason: str


class Budget(Part):
    """A figure that the user asked for, and what was reached."""

    name: str
    asked: float
    reached: float
    met: bool


class Source(Part):
    """The model that was compressed; `sha256` is that of the file and its external data."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Report(Part):
    """One run of `compress`. Shares lie between 0 and 1; units stand in the names.

    `layers`: all that have a stored weight, so that their MACs and `macs.beside` add up to those of `macs`. `files`:
    names of what the run wrote, all in one folder.
    """

    model_config = ConfigDict(title=VERSION)

    version: Literal["crisp-report/1"] = Field(default=VERSION, alias="schema")
    source: Source
    classes: tuple[ClassEntry, ...]
    accuracy: Accuracy
    segmentation: Segmentation | None = None
    sparsity: Sparsity
    macs: Macs
    file: FileSizes
    equivalence: Equivalence
    latency: Latency | None = None
    reordering: Reordering | None = None
    quantisation: Quantisation | None = None
    channels: Channels | None = None
    timings_s: dict[str, Duration]
    peak_memory_bytes: Count
    layers: tuple[LayerEntry, ...]
    declined: tuple[Declined, ...] = ()
    budgets: tuple[Budget, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    seed: int
    files: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _macs_of_the_layers(self) -> Report:
        left = self.macs.beside if self.macs.beside_kept is None else self.macs.beside_kept
        for name, said, counts, beside in (
            ("dense", self.macs.dense, [layer.macs for layer in self.layers], self.macs.beside),
            ("kept", self.macs.kept, [layer.macs_executed for layer in self.layers], left),
        ):
            if said != beside + sum(counts):
                raise ValueError(
                    f"{name} MACs are {said}, but those of the layers add up to {sum(counts)}, and "
                    f"{beside} are beside them"
                )
        return self


def to_json(report: Report) -> str:
    """The report as an indented JSON document that ends in a newline."""
    return json_text(report.model_dump(mode="json", by_alias=True))


def json_text(document: Any) -> str:
    """Plain data as an indented JSON document in Unicode that ends in a newline, whatever is in its texts."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return _NO_UNICODE.sub(lambda found: shown(found[0]).replace("\\", r"\\"), text)


def from_json(text: str) -> Report:
    """Read a report back.

    Raises:
        CrispError: not JSON, another version, an unknown field or one that is missing.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise CrispError(
            f"This is not a {VERSION} report: {place}: {first['msg']}. Write it again with `crisp-onnx compress`."
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `report.json`, as `docs/report.schema.json` holds it."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """`json_schema()` as the text of the published file."""
    return json.dumps(json_schema(), indent=2) + "\n"


def latency_entry(timing: Timing, *, threads: int, batch: int, runtime: str) -> Latency:
    """The report's entry of a measurement of two files, dense first."""
    dense, compressed = (Side(median_ms=s.median, p10_ms=s.p10, p90_ms=s.p90) for s in timing.sides_ms)
    ratio = timing.ratios[1]
    return Latency(
        dense=dense,
        compressed=compressed,
        ratio_median=ratio.median,
        ratio_p10=ratio.p10,
        ratio_p90=ratio.p90,
        threads=threads,
        batch=batch,
        runtime=runtime,
        noisy=timing.noisy,
        note=timing.note,
    )
