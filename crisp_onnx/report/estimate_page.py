"""`estimate --html`: one self-contained page with the first sentences, and roofline and bars of each model."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from crisp_onnx.cost import Estimate
from crisp_onnx.lowering import Target
from crisp_onnx.report.findings import Estimation
from crisp_onnx.report.roofline import Lengths, Ranges, lengths, ranges, write_layer_bars, write_roofline
from crisp_onnx.report.sheet import escaped, listed, sheet
from crisp_onnx.report.target_views import lead_sentences

COLOURS = {
    "--compute": ("#2b6cb0", "#5b9be6"),
    "--onchip": ("#b7791f", "#d9a441"),
    "--dram": ("#c53030", "#ee6f6f"),
    "--overhead": ("#6b46c1", "#a78bfa"),
    "--weights": ("#dd6b20", "#f0975a"),
    "--activations": ("#319795", "#4fc4c0"),
    "--lrf": ("#63b3ed", "#a5d5f7"),
    "--rf": ("#38a169", "#63c98f"),
}
"""Of the charts, in a light and in a dark page."""


def estimate_page(found: Estimation, target: Target) -> str:
    """The page as HTML; every text is escaped, nothing is loaded from elsewhere. Two models stand side by side.

    Raises:
        CrispError: matplotlib is not installed.
    """
    models = [one for one in (found.estimate, found.against) if one is not None]
    within, longest = ranges(models, target), lengths(models)
    said = ((),) if found.against is None else tuple(lead_sentences(Estimation(one, None, None)) for one in models)
    drawn = "".join(
        _model(number, one, sentences, target, within, longest)
        for number, (one, sentences) in enumerate(zip(models, said, strict=True))
    )
    leaned = tuple(
        f"{leaf.key} = {leaf.quantity.value:g} {leaf.quantity.unit}, {leaf.quantity.prov}: {leaf.quantity.ref}"
        for leaf in found.estimate.leaned_on
    )
    compared = () if found.speedup is None else (f"The second takes {found.speedup:.3g} times as long as the first.",)
    sentences = listed(lead_sentences(found) if found.against is None else compared)
    body = f'{sentences}<div class="models">{drawn}</div><h2>What it leaned on</h2>{listed(leaned)}'
    return sheet(f"{found.estimate.model} on {found.estimate.target}", body, COLOURS)


def _model(
    number: int, one: Estimate, sentences: tuple[str, ...], target: Target, within: Ranges, longest: Lengths
) -> str:
    """What is said of it, and both plots for a wide page and for a narrow one, of which the page shows what fits."""
    drawn = []
    plots = (("roofline", partial(write_roofline, within=within)), ("bars", partial(write_layer_bars, within=longest)))
    with tempfile.TemporaryDirectory() as folder:
        for name, write in plots:
            for canvas in ("wide", "narrow"):
                path = Path(folder) / f"{name}-{number}-{canvas}.svg"  # of which the names in the SVG are made
                write(one, target, path, canvas=canvas)
                drawn.append(f'<figure class="{canvas}">{path.read_text(encoding="utf-8")}</figure>')
    types = " and ".join(one.dtypes)
    title = f"{one.model}: {one.as_is.latency_ms:.4g} ms, {types}, batch {one.batch}"
    return f"<section><h2>{escaped(title)}</h2>{listed(sentences)}{''.join(drawn)}</section>"
