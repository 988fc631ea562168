"""What a bench measured, as tables for people."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from crisp_onnx.report.table import line, rows_table
from crisp_onnx.runtime.bench import Bench, BenchSetting
from crisp_onnx.runtime.layer_bench import LayerBench, LayerComparison

MOST_NAMED = 3


def bench_view(found: Bench) -> tuple[RenderableType, ...]:
    """A row per setting, a row per layer where layers were measured, and what to make of noise."""
    several = any(comparison.batch > 1 for comparison in found.comparisons)
    settings = [
        (
            comparison.threads,
            comparison.batch,
            *((_ways(comparison),) if several else ()),
            *(f"{side.median:.2f}" for side in comparison.timing.sides_ms),
            f"{comparison.speedup:.2f}",
            f"{comparison.timing.ratios[1].p10:.2f} to {comparison.timing.ratios[1].p90:.2f}",
            comparison.timing.rounds,
        )
        for comparison in found.comparisons
    ]
    measured = ("against, ms", "model, ms", "times faster", "10th to 90th percentile", "rounds")
    columns = ("threads", "batch", *(("fed",) if several else ()), *measured)
    title = f"{found.model.name} against {found.against}"
    shown: list[RenderableType] = [
        rows_table(title, columns, settings, right=tuple(range(len(columns)))),
        line(f"Model: {found.runtime}. Against: {found.against_runtime}."),
    ]
    shown += [
        line(f"{setting_text(comparison.threads, comparison.batch)}: {comparison.timing.note}")
        for comparison in found.comparisons
        if comparison.timing.noisy
    ]
    return (*shown, *(_layer_view(found.layers) if found.layers else ()))


def setting_text(threads: int, batch: int) -> str:
    """`2 threads, batch 8`."""
    return f"{threads} {'thread' if threads == 1 else 'threads'}, batch {batch}"


def worst_layers(layers: tuple[LayerComparison, ...]) -> str:
    """A sentence that names the layers which gain least."""
    ranked = sorted(layers, key=lambda layer: layer.verdict.speedup)[:MOST_NAMED]
    return "Least gained: " + ", ".join(f"{layer.node} ({layer.verdict.speedup:.2f})" for layer in ranked) + "."


def _layer_view(found: LayerBench) -> tuple[RenderableType, ...]:
    if found.obstacle:
        return Text(), line(f"No layer was measured alone. {found.obstacle}")
    rows = []
    for layer in found.layers:
        verdict = layer.verdict
        conversions_ms = verdict.sparse_ms - verdict.times.hybrid_ms
        times = (verdict.times.dense_ms, verdict.times.hybrid_ms, conversions_ms)
        noise = " noisy" if verdict.times.noisy else ""
        rows.append((layer.node, layer.kernel, *(f"{ms:.3f}" for ms in times), f"{verdict.speedup:.2f}{noise}"))
    title = f"Layers alone, {setting_text(found.threads, found.batch)}"
    heads = ("layer", "kernel", "dense, ms", "sparse, ms", "conversions, ms", "times faster")
    return Text(), rows_table(title, heads, rows, right=(2, 3, 4, 5)), line(worst_layers(found.layers))


def _ways(comparison: BenchSetting) -> str:
    """How the model took its batch, and the other side where that is another way."""
    model, against = (
        "in parts" if parts else "at once" for parts in (comparison.in_parts, comparison.against_in_parts)
    )
    return model if model == against else f"{model}, against {against}"
