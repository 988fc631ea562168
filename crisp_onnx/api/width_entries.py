"""The report's entries of what channels were removed, group by group and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from crisp_onnx.api.layer_entries import fit_entry
from crisp_onnx.api.narrow import Narrowing
from crisp_onnx.recipe import Recipe
from crisp_onnx.report.schema import Channels, GroupWidth, LayerEntry

WORTH_ALL = "all of its channels are worth more than others"


def channels_entry(recipe: Recipe, narrowing: Narrowing | None) -> Channels | None:
    """Every group that some layer writes; None where no channel was to go."""
    if narrowing is None:
        return None
    lost = {id(removal.group): len(removal.channels) for removal in narrowing.removals}
    groups = []
    for number, group in enumerate(narrowing.widths.groups):
        if not group.producers:
            continue
        gone = lost.get(id(group), 0)
        reason = "" if gone else narrowing.widths.kept.get(number, WORTH_ALL)
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
    )


def with_source_widths(entries: Sequence[LayerEntry], narrowing: Narrowing | None) -> tuple[LayerEntry, ...]:
    """The entries, of a network that has lost channels, held against the layers of the source."""
    if narrowing is None:
        return tuple(entries)
    before = {layer.name: layer for layer in narrowing.before.layers}
    fits = {fit.layer: fit for fit in narrowing.fits}
    found = []
    for entry in entries:
        layer = before[entry.name]
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
