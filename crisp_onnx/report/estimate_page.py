"""`estimate --html`: one self-contained page with the first sentences, and roofline and bars of each model."""

from __future__ import annotations

import html
import tempfile
from functools import partial
from pathlib import Path

from crisp_onnx.cost import Estimate
from crisp_onnx.lowering import Target
from crisp_onnx.reading import shown
from crisp_onnx.report.findings import Estimation
from crisp_onnx.report.roofline import Ranges, ranges, write_layer_bars, write_roofline
from crisp_onnx.report.target_views import lead_sentences

STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:110rem;"
    "padding:0 1rem}.models{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,46rem),1fr));gap:2rem}"
    "figure{margin:0 0 1rem;background:#fff;border-radius:.5rem;padding:.5rem;max-width:62rem}svg{display:block;"
    "width:100%;height:auto}li{margin:.3rem 0}section{min-width:0}h1,h2,li{overflow-wrap:anywhere}"
    ".narrow{display:none}@media(max-width:46rem){.wide{display:none}.narrow{display:block}}"
)


def estimate_page(found: Estimation, target: Target) -> str:
    """The page as HTML; every text is escaped, nothing is loaded from elsewhere. Two models stand side by side.

    Raises:
        CrispError: matplotlib is not installed.
    """
    models = [one for one in (found.estimate, found.against) if one is not None]
    within = ranges(models, target)
    own = (found, *(Estimation(one, None, None) for one in models[1:]))
    sentences, *others = ("".join(f"<li>{_text(sentence)}</li>" for sentence in lead_sentences(each)) for each in own)
    drawn = "".join(_model(*each, target, within) for each in zip(models, ("", *others), strict=True))
    leaned = "".join(
        f"<li>{_text(leaf.key)} = {leaf.quantity.value:g} {_text(leaf.quantity.unit)}, {leaf.quantity.prov}: "
        f"{_text(leaf.quantity.ref)}</li>"
        for leaf in found.estimate.leaned_on
    )
    title = _text(f"{found.estimate.model} on {found.estimate.target}")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1><ul>{sentences}</ul>"
        f'<div class="models">{drawn}</div>'
        f"<h2>What it leaned on</h2><ul>{leaned}</ul></body></html>\n"
    )


def _model(one: Estimate, sentences: str, target: Target, within: Ranges) -> str:
    """What is said of it, and both plots for a wide page and for a narrow one, of which the page shows what fits."""
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.svg"
        for write in (partial(write_roofline, within=within), write_layer_bars):
            for canvas in ("wide", "narrow"):
                write(one, target, path, canvas=canvas)
                svg = path.read_text(encoding="utf-8")
                drawn.append(f'<figure class="{canvas}">{svg[svg.index("<svg") :]}</figure>')
    said = f"<ul>{sentences}</ul>" if sentences else ""
    return f"<section><h2>{_text(one.model)}: {one.as_is.latency_ms:.4g} ms</h2>{said}{''.join(drawn)}</section>"


def _text(text: str) -> str:
    return html.escape(shown(text))
