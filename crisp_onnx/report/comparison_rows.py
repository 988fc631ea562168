"""One model on several targets as rows of text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable

from crisp_onnx.report.findings import TargetComparison, TargetRow
from crisp_onnx.report.rows import Rows
from crisp_onnx.report.wording import LIMITS

FROM_POWER = "Energy is 70 % of the design power over the time"
FITS = {"on_chip": "on the chip", "off_chip": "in memory", "no": "does not fit", "unknown": "not on the chip alone"}


def comparison_rows(found: TargetComparison) -> Rows:
    """A row per target; columns in which no target has anything are left out."""
    columns: dict[str, Callable[[TargetRow], str]] = {
        "target": lambda row: row.target if _names(found).count(row.target) == 1 else row.path,
        "fits": lambda row: "" if row.fits is None else FITS[row.fits],
        "dense ms": lambda row: _figure(row.dense_ms),
        "as it is ms": lambda row: _figure(row.latency_ms),
        "dense over it": lambda row: "" if row.speedup is None else f"{row.speedup:.2f}x",
        f"{found.against} ms": lambda row: _figure(row.against_ms),
        "limited by": lambda row: "" if row.limited_by is None else LIMITS[row.limited_by],
        "dense mJ": lambda row: _figure(row.dense_mj, 3),
        "as it is mJ": lambda row: _figure(row.energy_mj, 3),
        "priced in": lambda row: " and ".join(row.dtypes) + (", not its own" if row.retyped else ""),
        "assumed": lambda row: "" if row.assumed is None else str(row.assumed),
        "runs elsewhere": lambda row: "; ".join(row.elsewhere),
        "cannot take it": lambda row: row.refused,
        "hand it": lambda row: row.hand_over,
    }
    cells = [tuple(of(row) for of in columns.values()) for row in found.rows]
    used = [at for at in range(len(columns)) if any(row[at] for row in cells)]
    right = {"dense ms", "as it is ms", "dense over it", f"{found.against} ms", "dense mJ", "as it is mJ", "assumed"}
    names = list(columns)
    return Rows(
        f"{found.model}, batch {found.batch}, on {len(found.rows)} targets",
        tuple(names[at] for at in used),
        tuple(tuple(row[at] for at in used) for row in cells),
        right=frozenset(place for place, at in enumerate(used) if names[at] in right),
    )


def comparison_sentences(found: TargetComparison) -> tuple[str, ...]:
    """How to read the table, and what only some of its rows say; what several say is said once."""
    said: dict[str, list[str]] = {}
    for row in found.rows:
        for sentence in (*row.retyped, *((FROM_POWER,) if row.from_power else ()), *row.notes):
            said.setdefault(sentence.rstrip("."), []).append(row.target)
    many = len(found.rows)
    return (
        "Each ratio is of the model dense on the same target. Times of different targets are as good as the numbers "
        "behind them: `assumed` counts those that no source gives.",
        *(
            f"{sentence}." if len(names) == many else f"{', '.join(names)}: {sentence}."
            for sentence, names in said.items()
        ),
    )


def _names(found: TargetComparison) -> list[str]:
    return [row.target for row in found.rows]


def _figure(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"
