"""Log a sentence once a process: sessions are opened by the thousand, and a reader needs to be told one time."""

from __future__ import annotations

import functools
import logging

log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1024)
def say_once(level: int, text: str) -> None:
    """Log `text` at `level`, unless it was among the last thousand."""
    log.log(level, text)
