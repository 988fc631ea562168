"""Measure several threads while their cores stand near each other: those of a virtual machine move now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crisp_onnx.cost.calibrate.profile import Profile
from crisp_onnx.runtime.library import core_distance_ns

TRIES = 3
FAR = 2.0
"""Times the least distance from which cores count as far apart: caches shared or not differ by more."""


def is_far(apart_ns: float | None, near_ns: float | None) -> bool:
    """Whether cores stood further apart than they did near each other; not so where either is unknown."""
    return apart_ns is not None and near_ns is not None and apart_ns > FAR * near_ns


def steady(measured: Callable[[], Profile], threads: int, near_ns: float | None) -> Profile:
    """What `measured` gives, with the distance of the cores before or after it, the longer one.

    Up to three times where that is far beyond `near_ns`; the nearest counts then.
    """
    found: list[Profile] = []
    for _ in range(TRIES if threads > 1 else 1):
        before = core_distance_ns(threads)
        profile = measured()
        seen = [apart for apart in (before, core_distance_ns(threads)) if apart is not None]
        found.append(replace(profile, cores_apart_ns=max(seen, default=None)))
        if not is_far(found[-1].cores_apart_ns, near_ns):
            return found[-1]
    return min(found, key=lambda profile: profile.cores_apart_ns or 0.0)
