"""Log a sentence once a process: sessions are opened by the thousand, and a reader needs to be told one time."""

from __future__ import annotations

import functools
import logging

log = logging.getLogger(__name__)


@functools.cache
def say_once(level: int, text: str) -> None:
    """Log `text` at `level`, unless it was logged before."""
    log.log(level, text)
