"""A page of one's own: self-contained, in the colours that the reader's system asks for, readable on a telephone."""

from __future__ import annotations

import html

from crisp_onnx.reading import shown
from crisp_onnx.report.rows import Rows

COLOURS = {
    "--ground": ("#ffffff", "#14181d"),
    "--card": ("#f5f7f9", "#1c2229"),
    "--ink": ("#1b2129", "#e4e8ed"),
    "--quiet": ("#59636e", "#9ba7b4"),
    "--faint": ("#d5dbe1", "#37414c"),
}
"""By CSS variable, in a light and in a dark page."""
STYLE = (
    "*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:1.6rem clamp(.9rem,2vw,2rem)"
    " 3rem;max-width:110rem;background:var(--ground);color:var(--ink);overflow-wrap:anywhere}h1{font-size:1.5rem;"
    "line-height:1.25}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}ul{padding-left:1.2rem;max-width:70rem}"
    "li{margin:.3rem 0}section{min-width:0}.models{display:grid;grid-template-columns:repeat(auto-fit,"
    "minmax(min(100%,36rem),1fr));gap:0 2rem}figure{margin:0 0 1rem}svg{display:block;width:100%;height:auto}"
    "svg text{font-family:inherit!important}.narrow{display:none}@media(max-width:46rem){.wide{display:none}"
    ".narrow{display:block}}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;"
    "font-size:14px}th,td{text-align:left;vertical-align:top;padding:.3rem .9rem .3rem 0;"
    "border-bottom:1px solid var(--faint)}th,td{overflow-wrap:break-word}th{color:var(--quiet);vertical-align:bottom}"
    ".figure{text-align:right;white-space:nowrap}@media(max-width:74rem){thead{display:none}tbody{display:grid;"
    "grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr));gap:.8rem}tr{display:block;"
    "background:var(--card);border-radius:.5rem;padding:.6rem .9rem}td{display:flex;justify-content:space-between;"
    "gap:1rem;padding:.05rem 0;border:0;text-align:right}td:first-child{font-weight:600}td:empty{display:none}"
    "td:not(:first-child)::before{content:attr(data-head);color:var(--quiet);white-space:nowrap}}"
)


def sheet(title: str, body: str, colours: dict[str, tuple[str, str]] | None = None) -> str:
    """A whole HTML document. `title` is any text, `body` HTML; `colours` join `COLOURS`. Nothing is loaded."""
    every = {**COLOURS, **(colours or {})}
    light, dark = (";".join(f"{name}:{pair[at]}" for name, pair in every.items()) for at in (0, 1))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        'content="light dark"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        f"'unsafe-inline'\"><style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}</style>"
        f"</head><body><h1>{escaped(title)}</h1>{body}</body></html>\n"
    )


def listed(sentences: tuple[str, ...]) -> str:
    """Sentences as a list; an empty text where there are none."""
    return f"<ul>{''.join(f'<li>{escaped(sentence)}</li>' for sentence in sentences)}</ul>" if sentences else ""


def table(rows: Rows) -> str:
    """The columns that hold something; every cell knows its column's head, under which a narrow page shows it."""
    used = [at for at in range(len(rows.columns)) if any(cells[at] for cells in rows.cells)]
    head = "".join(_cell("th", rows.columns[at], "", figure=at in rows.right) for at in used)
    body = "".join(
        f"<tr>{''.join(_cell('td', cells[at], rows.columns[at], figure=at in rows.right) for at in used)}</tr>\n"
        for cells in rows.cells
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if any(rows.columns) else ''}\n<tbody>{body}</tbody></table>"


def _cell(tag: str, text: str, head: str, *, figure: bool) -> str:
    kind = ' class="figure"' if figure else ""
    named = f' data-head="{escaped(head)}"' if head else ""
    return f"<{tag}{kind}{named}>{escaped(text)}</{tag}>"


def escaped(text: str) -> str:
    """Any text, ours or foreign, as it stands on the page."""
    return html.escape(shown(text))
