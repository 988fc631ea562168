"""Figures as text, the same in every table: bytes, counts, times, shares with their interval."""

from __future__ import annotations

from crisp_onnx.report.interval import wilson

NOT_MEASURED = "not measured"
SAME_SPEED = 0.03
LIMITS = {
    "compute": "the array",
    "onchip": "the on-chip buffer",
    "dram": "the memory",
    "overhead": "the fixed overhead of its layers",
}
"""What takes most of the time, in words, by the bound of the estimate."""


def size_text(size_bytes: int) -> str:
    """Bytes in decimal units, as file managers and downloads show them: `1.86 MB`."""
    return _scaled(size_bytes, ("B", "kB", "MB", "GB", "TB"))


def count_text(count: int) -> str:
    """A count in thousands, millions, billions: `142 M`."""
    return _scaled(count, ("", "k", "M", "G", "T"))


def milliseconds_text(time_ms: float) -> str:
    """Three significant digits: `1.21 ms`."""
    return f"{significant(time_ms)} ms"


def slower(ratio: float, p90: float) -> bool:
    """Whether dense time over compressed time says slower: its median, and nine rounds in ten (`p90` below 1)."""
    return ratio < 1 - SAME_SPEED and p90 < 1


def speed_text(ratio: float, p90: float) -> str:
    """Dense time over compressed time: `1.66x as fast`, or `slower: 0.84x as fast`."""
    return f"{'slower: ' if slower(ratio, p90) else ''}{ratio:.2f}x as fast"


def share_text(share: float | None, n: int = 0) -> str:
    """A share in per cent; with `n`, its 95 % Wilson interval: `96.3 % (90.9-98.6)`."""
    if share is None:
        return NOT_MEASURED
    if not n:
        return f"{_per_cent(share)} %"
    low, high = wilson(round(share * n), n)
    return f"{_per_cent(share)} % ({_per_cent(low)}-{_per_cent(high)})"


def shape_text(shape: tuple[int, ...]) -> str:
    """`64x32x3x3`; trailing ones of a matrix are left out."""
    plain = shape[:2] if shape[2:] == (1, 1) else shape
    return "x".join(map(str, plain))


def significant(value: float) -> str:
    """A number below a thousand with three significant digits, at most two after the point."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"


def _per_cent(share: float) -> str:
    return "100" if share == 1 else f"{100 * share:.1f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    if value < 1000:
        return f"{value} {units[0]}".rstrip()
    scaled, unit = value / 1000, 1
    while scaled >= 999.5 and unit < len(units) - 1:
        scaled, unit = scaled / 1000, unit + 1
    return f"{significant(scaled)} {units[unit]}"


def budget_texts(asked: float, reached: float) -> tuple[str, str]:
    """Both figures of a budget in few digits, or in all of them where few would hide what lies between."""
    first, second = f"{asked:g}", f"{reached:.4g}"
    first = first if float(first) == asked and len(first) <= len(repr(asked)) else repr(asked)
    same_side = (float(second) < asked) == (reached < asked) and (float(second) > asked) == (reached > asked)
    return first, second if same_side or reached == asked else repr(reached)
