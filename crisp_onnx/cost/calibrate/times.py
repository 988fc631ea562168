"""Keep the times that a calibration measured, so that a target is fitted again without measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from crisp_onnx.cost.calibrate.machine import Machine
from crisp_onnx.cost.calibrate.profile import Profile
from crisp_onnx.errors import CrispError
from crisp_onnx.reading import read_text, shown

MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Times:
    """`profiles`: by form and number of the synthetic network, as `run` names them. `date`: of measuring."""

    machine: Machine
    threads: int
    onnxruntime: str
    date: str
    bandwidth_bytes_s: float
    profiles: Mapping[str, Profile]
    schema: Literal["crisp-times/2"] = "crisp-times/2"

    @property
    def cores_apart_ns(self) -> float | None:
        """How far the threads' cores stood apart, the median of all measured; None where that is not known."""
        known = [profile.cores_apart_ns for profile in self.profiles.values() if profile.cores_apart_ns is not None]
        return median(known) if known else None


_FILE = TypeAdapter(Times)


def times_text(times: Times) -> str:
    return _FILE.dump_json(times).decode() + "\n"


def read_times(path: Path) -> Times:
    """Read what `times_text` wrote.

    Raises:
        CrispError: no such file, or a damaged one.
    """
    text = read_text(path, "file of times", limit=MAX_BYTES)
    try:
        found = _FILE.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise CrispError(
            f"{shown(str(path))}, key {shown(key)}: {first['msg']}. This is no file that "
            "`targets calibrate --times` wrote. Name one that is not there yet, and it is measured anew."
        ) from error
    if not found.profiles or found.threads < 1 or not found.bandwidth_bytes_s > 0:
        raise CrispError(f"{shown(str(path))} holds no times. Name a file that is not there yet, and it is measured.")
    return found
