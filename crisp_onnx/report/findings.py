"""What the commands find, as frozen values: `check`, `inspect`, `verify`, `targets` and `estimate` return these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crisp_onnx.cost import Estimate
from crisp_onnx.cost.fit import Verdict
from crisp_onnx.cost.layer import Bound
from crisp_onnx.cost.profiles.fit import FittedRates
from crisp_onnx.data import Classes
from crisp_onnx.format import HybridLayer
from crisp_onnx.lowering.describe import TargetSummary
from crisp_onnx.model import WeightLayer
from crisp_onnx.report.schema import Segmentation
from crisp_onnx.runtime.evaluate import Comparison
from crisp_onnx.runtime.latency import Timing


@dataclass(frozen=True)
class LayerCheck:
    """One weight layer; `reason` says why it stays dense, and is empty where it may become sparse."""

    layer: WeightLayer
    reason: str

    @property
    def prunable(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class SharedChannels:
    """`width` channels that live and die together: the layers that write and read them, and what binds them.

    `passes`: the other nodes that they go through, by name; `operators`: how many of these are of each type. `keeps`:
    why none may be removed though they may change places. `macs_a_channel`, `bytes_a_channel`: what removing one of
    them alone saves.
    """

    width: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    bounds: tuple[str, ...]
    passes: tuple[str, ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()
    macs_a_channel: int = 0
    bytes_a_channel: int = 0

    @property
    def removable(self) -> bool:
        """Whether channels may be removed."""
        return not self.bounds and not self.keeps and self.width > 1


@dataclass(frozen=True)
class BlockFound:
    """A residual block. `nodes`: of its branch. `macs`: of one image. `cka`: of what it reads and gives, at most 1.

    `moved`: the root mean square by which the answers move without it, over their spread. `dropped`: whether it is left
    out of the model that was written.
    """

    name: str
    nodes: tuple[str, ...]
    macs: int
    cka: float
    moved: float
    dropped: bool = False


@dataclass(frozen=True)
class BlocksFound:
    """The residual blocks of a model of `macs`. `output`: the model without those dropped; `moved`: its answers."""

    path: Path
    blocks: tuple[BlockFound, ...]
    macs: int
    output: Path | None
    moved: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """`operators`: counts by type. `missing`: those without a bridge to torch, for any output of the graph.

    `macs_beside`: what the model multiplies for one image outside of its weight layers. `refusal`: why `compress` would
    not take the model, a sentence; empty where it would. `refusal_of_channels`: the same of `--method channels`.
    """

    path: Path
    opset: int
    input_shape: tuple[int | None, ...]
    layers: tuple[LayerCheck, ...]
    macs_beside: int
    operators: dict[str, int]
    missing: dict[str, int]
    refusal: str
    refusal_of_channels: str
    groups: tuple[SharedChannels, ...]
    notes: tuple[str, ...]

    @property
    def refusal_told(self) -> str:
        """`refusal`, and the method that takes the model where one does."""
        known = self.refusal and not self.refusal_of_channels
        return f"{self.refusal} With --method channels it takes the model." if known else self.refusal

    @property
    def prunable_weights(self) -> float:
        """Weights of the prunable layers over those of all weight layers."""
        total = sum(item.layer.weights for item in self.layers)
        return sum(item.layer.weights for item in self.layers if item.prunable) / total if total else 0.0

    @property
    def prunable_macs(self) -> float:
        """MACs of the prunable layers over those of the whole model."""
        prunable = sum(item.layer.macs for item in self.layers if item.prunable)
        return prunable / self.macs if self.macs else 0.0

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.macs_beside + sum(item.layer.macs for item in self.layers)


@dataclass(frozen=True)
class ZeroLayer:
    """An ordinary layer that holds zeros in place: `density` is the share of its weights that are not zero."""

    name: str
    op: str
    shape: tuple[int, ...]
    density: float
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """`dense_bytes`: every stored tensor that is not part of a hybrid layer. `zeros`: the layers with zeros in place.

    `notes`: what the file records of itself.
    """

    path: Path
    layers: tuple[HybridLayer, ...]
    dense_bytes: int
    file_bytes: int
    zeros: tuple[ZeroLayer, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def formula_bytes(self) -> int:
        """The format's formula over all hybrid layers plus the dense rest."""
        return sum(layer.formula_bytes for layer in self.layers) + self.dense_bytes


@dataclass(frozen=True)
class Verification:
    """`comparison` is None without images. `worst_relative`: of the user's logits, over max |original|, seeded inputs.

    `runtime`: what ran the compressed file in `timing`. `classes` is None where neither a list nor the compressed
    file's metadata names them; all outputs count then.
    """

    classes: Classes | None
    comparison: Comparison | Segmentation | None
    worst_relative: float
    bytes_original: int
    bytes_compressed: int
    timing: Timing
    runtime: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BankFound:
    """A bank that was written. `images`: how many each class's sums are over, by output. `weights`: tensors a class."""

    path: Path
    statistic: str
    images: Mapping[int, int]
    weights: int
    bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetList:
    """Every built-in target in one line."""

    targets: tuple[TargetSummary, ...]


@dataclass(frozen=True)
class FittedTarget:
    """A target written from a vendor's profile: the file, the target it started from, and what was fitted."""

    path: Path
    base: str
    found: FittedRates


@dataclass(frozen=True)
class TargetText:
    """One target in words."""

    name: str
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Estimation:
    """An estimate and, where another model was named, its estimate on the same target.

    `speedup`: latency of `against` over that of `estimate`. `files`: plots that were written.
    """

    estimate: Estimate
    against: Estimate | None
    speedup: float | None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TargetRow:
    """One target of a comparison: where it cannot take the model, `refused` says why, and nothing else is known.

    `fits`: the memory that the model has room in. `dense_ms`: of the model without its zeros, on this target, as all
    ratios are. `dtypes`: in which it is priced; `retyped`, `elsewhere`: sentences, see `Estimate`. `assumed`: how many
    of the numbers behind it are assumed. Energies are nominal, `from_power` where they are a share of the design power
    over the time; `None` where the target says nothing of it.
    """

    target: str
    path: str
    hand_over: str
    refused: str = ""
    fits: Verdict | None = None
    dense_ms: float | None = None
    latency_ms: float | None = None
    speedup: float | None = None
    limited_by: Bound | None = None
    dtypes: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    assumed: int | None = None
    dense_mj: float | None = None
    energy_mj: float | None = None
    from_power: bool = False
    against_ms: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetComparison:
    """One model on several targets, and a second one where `against` names it."""

    model: str
    against: str | None
    batch: int
    rows: tuple[TargetRow, ...]
