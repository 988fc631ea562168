"""Charts as inline SVG whose colours are the page's CSS variables, so that they follow its theme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# matplotlib wants real colours: each of these stands for a CSS variable and is replaced in the finished SVG.
INK, FAINT = "#0a0b01", "#0a0b02"
VARIABLES = {INK: "--ink", FAINT: "--faint"}


def style() -> dict[str, Any]:
    """matplotlib's settings for a chart on a page."""
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.color": FAINT,
        "ytick.labelcolor": INK,
        "ytick.major.size": 0,
    }


def inline(svg: str, salt: str, variables: Mapping[str, str]) -> str:
    """The bare `<svg>` element: scaled by the page, in its `variables` by colour, with ids that no second chart has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|"#|url\(#)', rf"\g<1>{salt}-", svg)
    for colour, variable in {**VARIABLES, **variables}.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
