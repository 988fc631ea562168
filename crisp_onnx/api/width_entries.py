"""The report's entries of what channels were removed, group by group and layer by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod

from crisp_onnx.api.layer_entries import fit_entry
from crisp_onnx.api.narrow import Narrowing, stored_shapes
from crisp_onnx.format import DOMAIN
from crisp_onnx.model import WeightLayer
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.schema import Channels, CollapsedChain, GroupWidth, LayerEntry
from crisp_onnx.report.wording import shape_text

WIDTHS, COLLAPSED = f"{DOMAIN}.widths", f"{DOMAIN}.collapsed"
NAMED = 5
GONE = "none"
EMPTY = "it has no channels left, and its block collapsed"
BECAME = "it has no channels left: up to this layer its chain became {}"
WENT_WITH = "the layers that write them are gone: their block collapsed"
WORTH_ALL = "all of its channels are worth more than others"


def channels_entry(recipe: Recipe, narrowing: Narrowing | None) -> Channels | None:
    """Every group that some layer writes; None where no channel was to go."""
    if narrowing is None:
        return None
    lost = {id(removal.group): len(removal.channels) for removal in narrowing.choice.removals}
    lost |= {id(group): group.width for group in narrowing.choice.dead}
    before = stored_shapes(narrowing.before).keys()
    groups = []
    for number, group in enumerate(narrowing.widths.groups):
        if not group.producers:
            continue
        gone = lost.get(id(group), 0)
        reason = "" if gone else narrowing.widths.kept.get(number, WORTH_ALL)
        if before >= {*group.producers} and narrowing.shapes.keys().isdisjoint(group.producers):
            gone, reason = group.width, WENT_WITH
        groups.append(
            GroupWidth(
                channels=group.width, kept=group.width - gone, written_by=group.producers, read_by=group.consumers,
                reason=reason,
            )
        )  # fmt: skip
    return Channels(
        macs_left=narrowing.macs_left,
        rounded_to=recipe.round_channels,
        worst_relative=narrowing.worst_relative,
        epochs=narrowing.epochs,
        groups=tuple(groups),
        collapsed=tuple(CollapsedChain(layer=one.product, into=one.into) for one in narrowing.collapsed),
    )


def widths_stamp(narrowing: Narrowing | None) -> dict[str, str]:
    """Entries for the file's metadata: weights that became narrower, before and after, and what became of lost chains.

    Shapes are those of the file, by the names of the nodes; of transposed convolutions too.
    """
    if narrowing is None:
        return {}
    after = {name: list(shape) for name, shape in narrowing.shapes.items()}
    shapes = {name: [list(shape), after.get(name, [])] for name, shape in stored_shapes(narrowing.before).items()}
    found = {WIDTHS: json.dumps({name: pair for name, pair in shapes.items() if pair[0] != pair[1]})}
    if narrowing.collapsed:
        told = {one.product: BECAME.format(one.into) for one in narrowing.collapsed}
        found[COLLAPSED] = json.dumps(told)
    return found


def widths_told(metadata: Mapping[str, str]) -> str:
    """What a file's metadata says of its widths, in a sentence; empty where it says nothing."""
    try:
        changed = {str(name): (tuple(pair[0]), tuple(pair[1])) for name, pair in json.loads(metadata[WIDTHS]).items()}
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError):
        return ""
    listed = [
        f"{name} {shape_text(one)} > {shape_text(other) or GONE}"
        for name, (one, other) in list(changed.items())[:NAMED]
    ]
    more = ", ..." if len(changed) > NAMED else ""
    return f"Channels were removed from {len(changed)} layers: {', '.join(listed)}{more}." if changed else ""


def with_source_widths(entries: Sequence[LayerEntry], narrowing: Narrowing | None) -> tuple[LayerEntry, ...]:
    """The entries, of a network that has lost channels, held against the layers of the source."""
    if narrowing is None:
        return tuple(entries)
    before = {layer.name: layer for layer in narrowing.before.layers}
    fits = {fit.layer: fit for fit in narrowing.fits}
    left = {entry.name: entry for entry in entries}
    found = []
    for layer in before.values():
        entry = left.get(layer.name)
        if entry is None:
            found.append(_collapsed(layer))
            continue
        changed: dict[str, object] = {
            "shape": layer.shape,
            "shape_kept": None if entry.shape == layer.shape else entry.shape,
            "macs": layer.macs,
            "density": entry.density * prod(entry.shape) / layer.weights,
            "bytes_dense": layer.weights * 4,
        }
        if entry.fit is None and entry.name in fits:
            changed["fit"] = fit_entry(fits[entry.name])
        found.append(entry.model_copy(update=changed))
    return tuple(found)


def _collapsed(layer: WeightLayer) -> LayerEntry:
    return LayerEntry(
        name=layer.name, op=layer.op, weight=layer.weight, shape=layer.shape, macs=layer.macs, macs_executed=0,
        decision="collapsed", reason=EMPTY, density=0.0, bytes=0, bytes_dense=layer.weights * 4,
    )  # fmt: skip
