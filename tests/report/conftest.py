"""A realistic report of a small residual network, built by hand; no run is needed to test what tells of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crisp_onnx.report import schema as s

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = ((16, 16, 32), (16, 16, 32), (16, 32, 16), (32, 32, 16), (32, 64, 8), (64, 64, 8))


def _layer(number: int, cin: int, cout: int, side: int) -> s.LayerEntry:
    weights, columns = cout * cin * 9, -(-cin * 9 // 16)
    kept = max(1, columns // 4 + number % 3)
    return s.LayerEntry(
        name=f"/layer{number}/Conv",
        op="Conv",
        weight=f"layer{number}.weight",
        shape=(cout, cin, 3, 3),
        macs=weights * side * side,
        macs_executed=round(weights * kept / columns / 2 * side * side),
        decision="sparse",
        n=2,
        m=4,
        block=16,
        vector_rows=8,
        kept_blocks=kept,
        block_columns=columns,
        density=kept / columns / 2,
        bytes=int(weights * kept / columns / 2 * 4.3),
        bytes_dense=weights * 4,
    )


def _layers() -> tuple[s.LayerEntry, ...]:
    stem = s.LayerEntry(
        name="/stem/Conv",
        op="Conv",
        weight="stem.weight",
        shape=(16, 1, 3, 3),
        macs=147456,
        macs_executed=147456,
        decision="dense",
        reason="first convolution: its few input channels see the image itself",
        density=1.0,
        bytes=576,
        bytes_dense=576,
    )
    head = s.LayerEntry(
        name="/head/Gemm",
        op="Gemm",
        weight="head.weight",
        shape=(10, 64, 1, 1),
        macs=640,
        macs_executed=640,
        decision="dense",
        reason="smaller than one block per block row",
        density=1.0,
        bytes=2560,
        bytes_dense=2560,
    )
    return (stem, *(_layer(i, *width) for i, width in enumerate(WIDTHS)), head)


@pytest.fixture
def report() -> s.Report:
    """Three digits, 87 % of the weights gone, accuracy measured on 108 images."""
    layers = _layers()
    dense = sum(layer.macs for layer in layers)
    kept = sum(layer.macs_executed for layer in layers)
    return s.Report(
        source=s.Source(path="digits.onnx", sha256="0f" * 32),
        classes=tuple(s.ClassEntry(index=i, name=str(i)) for i in (3, 5, 8)),
        accuracy=s.Accuracy(
            dense=s.Score(top1=105 / 108, top1_restricted=107 / 108),
            compressed=s.Score(top1=101 / 108, top1_restricted=104 / 108),
            n=108,
            source="evaluation images",
        ),
        sparsity=s.Sparsity(weights=0.872, all_weights=0.85),
        macs=s.Macs(dense=dense, kept=kept, kept_ratio=kept / dense, nonzero=kept, nonzero_ratio=kept / dense),
        file=s.FileSizes(bytes_dense=352_112, bytes=69_904, bytes_formula=69_120),
        equivalence=s.Equivalence(worst_relative=3.1e-7, native_worst_relative=4.2e-7, images=16),
        latency=s.Latency(
            dense=s.Side(median_ms=1.21, p10_ms=1.18, p90_ms=1.34),
            compressed=s.Side(median_ms=1.23, p10_ms=1.19, p90_ms=1.37),
            ratio_median=0.984,
            ratio_p10=0.95,
            ratio_p90=1.02,
            threads=1,
            batch=1,
            runtime="stock ONNX Runtime (function bodies, dense speed)",
            noisy=False,
        ),
        timings_s={"read": 0.1, "saliency": 1.2, "recover": 61.0, "emit": 0.4, "prove": 0.3},
        peak_memory_bytes=734_003_200,
        layers=layers,
        declined=(s.Declined(pass_name="fold_batchnorm", node="/bn7", reason="its input is used by two nodes"),),
        budgets=(s.Budget(name="sparsity", asked=0.87, reached=0.872, met=True),),
        notes=("18 of 162 training images of these classes were held out for choices.",),
        versions={"crisp-onnx": "0.1.0", "onnxruntime": "1.31.1"},
        seed=0,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved during a test, in their order."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    saved = Figure.savefig

    def kept(figure: Figure, *args: object, **named: object) -> None:
        saved(figure, *args, **named)  # type: ignore[arg-type]
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures
