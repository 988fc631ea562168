"""What a report's tables say, as plain rows; the terminal and the page draw the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from crisp_onnx.report.schema import Channels, Interval, LayerEntry, Macs, Reordering, Report, Segmentation, Side
from crisp_onnx.report.wording import (
    NOT_MEASURED,
    budget_texts,
    count_text,
    milliseconds_text,
    shape_text,
    share_text,
    significant,
    size_text,
    speed_text,
)


@dataclass(frozen=True)
class Rows:
    """A table: its title, its column heads and its cells. Columns in `right` hold figures."""

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def before_after_rows(report: Report) -> Rows:
    """Bytes, MACs, accuracy and latency of both models, and what changed."""
    file, macs, latency = report.file, report.macs, report.latency
    cells = [
        ("file", size_text(file.bytes_dense), size_text(file.bytes), _smaller(file.bytes_dense, file.bytes)),
        ("MACs per image", count_text(macs.dense), count_text(macs.kept), f"{share_text(macs.kept_ratio)} executed"),
        *_channel_cells(report.channels),
        *_zero_macs_cells(macs),
        *_zero_cells(report),
        *_accuracy_cells(report),
    ]
    if latency is None:
        cells.append(("latency", NOT_MEASURED, NOT_MEASURED, ""))
    else:
        name = f"latency, {_counted(latency.threads, 'thread')}"
        cells.append(
            (
                name,
                _side_text(latency.dense),
                _side_text(latency.compressed),
                speed_text(latency.ratio_median, latency.ratio_p90),
            )
        )
    return Rows("Before and after", ("", "dense", "compressed", "change"), tuple(cells), frozenset({1, 2}))


def _zero_cells(report: Report) -> list[tuple[str, ...]]:
    """None where channels went and no layer was to be sparse."""
    if report.channels is not None and not report.sparsity.weights:
        return []
    return [
        ("zeros, all layers", "", share_text(report.sparsity.all_weights), ""),
        ("zeros, sparse layers", "", share_text(report.sparsity.weights), ""),
    ]


def _channel_cells(found: Channels | None) -> list[tuple[str, ...]]:
    """Channels of all groups, each counted once however many layers it goes through."""
    if found is None:
        return []
    before, after = sum(group.channels for group in found.groups), sum(group.kept for group in found.groups)
    return [("channels", f"{before:,}", f"{after:,}", f"{share_text(after / max(1, before))} kept")]


def _zero_macs_cells(macs: Macs) -> list[tuple[str, ...]]:
    """Only where ordinary operators hold zeros that nothing skips here."""
    if macs.nonzero == macs.kept:
        return []
    name, share = "MACs, zeros left out", f"{share_text(macs.nonzero_ratio)} of all"
    return [(name, count_text(macs.dense), count_text(macs.nonzero), share)]


def layer_rows(report: Report) -> Rows:
    """A row per weight layer: what was decided and why, pattern, density, MACs, bytes."""
    columns = (
        *("layer", "op", "shape", "MACs", "pattern", "blocks", "density", "before", "after"),
        *("dense ms", "sparse ms", "why dense"),
    )
    cells = tuple(
        (
            layer.name,
            layer.op,
            shape_text(layer.shape) if layer.shape_kept is None else _narrower(layer.shape, layer.shape_kept),
            count_text(layer.macs),
            pattern_text(layer),
            f"{layer.kept_blocks}/{layer.block_columns}" if layer.decision == "sparse" else "",
            share_text(layer.density),
            size_text(layer.bytes_dense),
            size_text(layer.bytes),
            _layer_ms(layer.dense_ms),
            _layer_ms(layer.sparse_ms),
            layer.reason,
        )
        for layer in report.layers
    )
    return Rows("Layers", columns, cells, frozenset({3, 5, 6, 7, 8, 9, 10}))


def note_sentences(report: Report) -> tuple[str, ...]:
    """Everything a reader of the figures must know: what was not measured, noisy, declined, missed or synthesised."""
    notes = [
        *_fit_sentences(report),
        *_collapse_sentences(report),
        *_reordering_sentences(report.reordering),
        *report.notes,
    ]
    accuracy, latency = report.accuracy, report.latency
    if report.segmentation is not None:
        notes += _overlap_sentences(report.segmentation)
    elif accuracy.source == "not measured":
        notes.append(f"Accuracy was not measured: {_sentence(accuracy.reason)}")
    else:
        notes.append(
            f"Accuracy is measured on {accuracy.n:,} {accuracy.source}; in brackets, 95 % Wilson intervals. "
            f"'{_counted(len(report.classes), 'class', 'classes')}': the logits of your classes alone."
        )
        if accuracy.reason:
            notes.append(_sentence(accuracy.reason))
    if latency is not None:
        notes.append(
            f"Latency: {latency.runtime}, batch {latency.batch}, both models in turn on this host; median "
            f"(10th to 90th percentile). Dense over compressed, round by round: {latency.ratio_p10:.2f} to "
            f"{latency.ratio_p90:.2f}."
        )
        if latency.note:
            notes.append(_sentence(latency.note))
    notes += [
        "Budget missed: {} was to be {}, {} was reached.".format(
            budget.name, *budget_texts(budget.asked, budget.reached)
        )
        for budget in report.budgets
        if not budget.met
    ]
    notes += _declined_sentences(report)
    return tuple(notes)


def _overlap_sentences(found: Segmentation) -> list[str]:
    """What was judged and how."""
    judged, ignored = found.judged / found.pixels, found.ignored / found.pixels
    return [
        f"IoU is intersection over union over {found.n:,} {found.source}; in brackets, 95 % intervals by drawing "
        f"images anew. '{_counted(len(found.classes), 'class', 'classes')}': the scores of your classes alone, on the "
        f"{share_text(judged)} of the pixels that are of these. Background counts where it is one of them.",
        f"{share_text(ignored)} of the pixels are labelled 255 and count nowhere; those of other classes count over "
        "all outputs alone, against the class that is answered there.",
        f"Both models give {share_text(found.agreement / max(1, found.judged))} of the judged pixels the same class.",
    ]


def _fit_sentences(report: Report) -> tuple[str, ...]:
    """What the re-fit gained, over the sparse layers."""
    narrow = report.channels is not None and not any(layer.decision == "sparse" for layer in report.layers)
    fits = [x.fit for x in report.layers if x.fit is not None and (narrow or x.decision == "sparse")]
    if not fits:
        return ()
    kind = "narrower" if narrow else "sparse"
    before, after = (median(getattr(fit, f"error_{when}") for fit in fits) for when in ("before", "after"))
    return (
        f"Least squares took the error of a {kind} layer's outputs from {share_text(before)} to {share_text(after)} of "
        f"their spread: the median of {_counted(len(fits), 'layer')}, on images held out.",
    )


def _collapse_sentences(report: Report) -> tuple[str, ...]:
    """What became of blocks that have lost all their channels."""
    if report.channels is None or not report.channels.collapsed:
        return ()
    gone = sum(layer.decision == "collapsed" for layer in report.layers)
    chains = "; ".join(f"that up to {one.layer} became {one.into}" for one in report.channels.collapsed)
    return (f"No channel of {_counted(gone, 'layer')} was worth its cost, and their chains collapsed: {chains}.",)


def pattern_text(layer: LayerEntry) -> str:
    """`2:4 B16 V8`: N:M, block, vector rows; or `dense`."""
    if layer.decision != "sparse":
        return layer.decision
    return f"{layer.n}:{layer.m} B{layer.block} V{layer.vector_rows}"


def _accuracy_cells(report: Report) -> list[tuple[str, ...]]:
    accuracy = report.accuracy
    if report.segmentation is not None:
        return [*overlap_cells(report.segmentation)]
    names = (
        (f"accuracy, {_counted(len(report.classes), 'class', 'classes')}", "top1_restricted"),
        ("accuracy, all outputs", "top1"),
    )
    cells: list[tuple[str, ...]] = []
    for name, field in names:
        before, after = getattr(accuracy.dense, field), getattr(accuracy.compressed, field)
        change = "" if before is None or after is None else f"{100 * (after - before):+.1f} points"
        cells.append((name, share_text(before, accuracy.n), share_text(after, accuracy.n), change))
    return cells


def _narrower(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return f"{shape_text(before)} > {shape_text(after)}"


def overlap_cells(found: Segmentation) -> list[tuple[str, str, str, str]]:
    """A row for each way of scoring, and one for each class."""
    yours = _counted(len(found.classes), "class", "classes")
    dense, compressed = found.dense, found.compressed
    change = f"{_points(found.change.low)} to {_points(found.change.high)}"
    cells = [
        (
            f"mean IoU, {yours}",
            between_text(dense.mean_iou_restricted, dense.mean_iou_restricted_interval),
            between_text(compressed.mean_iou_restricted, compressed.mean_iou_restricted_interval),
            f"{_points(compressed.mean_iou_restricted - dense.mean_iou_restricted)} points ({change})",
        ),
        (
            "mean IoU, all outputs",
            between_text(dense.mean_iou, dense.mean_iou_interval),
            between_text(compressed.mean_iou, compressed.mean_iou_interval),
            f"{_points(compressed.mean_iou - dense.mean_iou)} points",
        ),
    ]
    fields = ((f"pixels right, {yours}", "pixel_accuracy_restricted"), ("pixels right, all outputs", "pixel_accuracy"))
    for name, field in fields:
        before, after = getattr(dense, field), getattr(compressed, field)
        cells.append((name, share_text(before), share_text(after), f"{_points(after - before)} points"))
    for each in found.classes:
        known = each.dense is not None and each.compressed is not None
        change = f"{_points((each.compressed or 0) - (each.dense or 0))} points" if known else ""
        cells.append((f"IoU, {each.name}", share_text(each.dense), share_text(each.compressed), change))
    return cells


def between_text(share: float, interval: Interval) -> str:
    """`71.3 % (68.0-74.1)`."""
    low, high = (share_text(bound).removesuffix(" %") for bound in (interval.low, interval.high))
    return f"{share_text(share)} ({low}-{high})"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _layer_ms(time_ms: float | None) -> str:
    """Three digits after the point: single layers take microseconds."""
    return "" if time_ms is None else f"{time_ms:.3f}"


def _side_text(side: Side) -> str:
    return f"{milliseconds_text(side.median_ms)} ({significant(side.p10_ms)}-{significant(side.p90_ms)})"


def _reordering_sentences(found: Reordering | None) -> list[str]:
    """What the order of the channels is worth."""
    if found is None:
        return []
    if not found.done:
        return [f"Channels stay in the order of the file: {_sentence(found.reason)}"]
    frozen = f"; {_counted(len(found.frozen), 'group')} may not move" if found.frozen else ""
    return [
        f"Channels are reordered in {_counted(len(found.groups), 'group')}{frozen}: the masks keep "
        f"{share_text(found.kept_after)} of the saliency, {share_text(found.kept_before)} in the order of the file."
    ]


def _declined_sentences(report: Report) -> list[str]:
    """One sentence for each pass and reason; a large graph declines the same thing many times."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for entry in report.declined:
        nodes.setdefault((entry.pass_name, entry.reason), []).append(entry.node)
    return [
        f"{pass_name} left {_named(names)} unchanged: {_sentence(reason)}"
        for (pass_name, reason), names in nodes.items()
    ]


def _named(names: list[str]) -> str:
    if len(names) <= 2:
        return " and ".join(names)
    return f"{len(names)} nodes ({names[0]}, {names[1]}, ...)"


def _smaller(before: int, after: int) -> str:
    return f"{before / after:.2f}x smaller" if after and before >= after else f"{after / max(before, 1):.2f}x larger"


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
