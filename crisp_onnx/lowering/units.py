"""Units of a hardware descriptor: which are allowed for a key, and exact conversion to the unit of computation."""

from __future__ import annotations

from fractions import Fraction

_GIGA, _MEGA, _KILO = 10**9, 10**6, 10**3
CYCLE_UNITS = ("B/cycle", "cycles")

UNITS: dict[str, dict[str, Fraction]] = {
    "frequency": {"Hz": Fraction(1), "kHz": Fraction(_KILO), "MHz": Fraction(_MEGA), "GHz": Fraction(_GIGA)},
    "count": {"count": Fraction(1)},
    "columns": {"columns": Fraction(1)},
    "values": {"values": Fraction(1)},
    "bits": {"bit": Fraction(1), "bits": Fraction(1)},
    "macs": {"MAC/cycle": Fraction(1)},
    "ratio": {"1": Fraction(1), "ratio": Fraction(1), "%": Fraction(1, 100)},
    "bytes": {
        "B": Fraction(1),
        "KiB": Fraction(2**10),
        "MiB": Fraction(2**20),
        "GiB": Fraction(2**30),
        "kB": Fraction(_KILO),
        "MB": Fraction(_MEGA),
        "GB": Fraction(_GIGA),
    },
    "bandwidth": {
        "B/cycle": Fraction(1),
        "B/s": Fraction(1),
        "kB/s": Fraction(_KILO),
        "MB/s": Fraction(_MEGA),
        "GB/s": Fraction(_GIGA),
        "TB/s": Fraction(10**12),
    },
    "time": {
        "cycles": Fraction(1),
        "s": Fraction(1),
        "ms": Fraction(1, _KILO),
        "us": Fraction(1, _MEGA),
        "ns": Fraction(1, _GIGA),
    },
    "energy": {"fJ": Fraction(1, _KILO), "pJ": Fraction(1), "nJ": Fraction(_KILO), "uJ": Fraction(_MEGA)},
    "power": {"mW": Fraction(1, _KILO), "W": Fraction(1)},
    "throughput": {"TOPS": Fraction(1), "GOPS": Fraction(1, _KILO)},
}


def exact(value: float) -> Fraction:
    """The decimal number as it is written, as an exact rational: 0.1 is one tenth, not its binary neighbour."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def convert(value: float, unit: str, dimension: str, clock_hz: Fraction) -> Fraction:
    """Bandwidths become bytes per cycle and times cycles of `clock_hz`; every other dimension its first listed base.

    `unit` must be one of `UNITS[dimension]`.
    """
    scaled = exact(value) * UNITS[dimension][unit]
    if unit in CYCLE_UNITS:
        return scaled
    if dimension == "bandwidth":
        return scaled / clock_hz
    if dimension == "time":
        return scaled * clock_hz
    return scaled
