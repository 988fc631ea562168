"""Seconds by stage, for the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("crisp_onnx")


class Stopwatch:
    """`with watch("saliency"): ...` adds the time spent to that stage; `seconds` holds all of them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            log.info("%-12s %6.1f s", stage, spent)
