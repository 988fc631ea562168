"""Progress bars on stderr: what a stage does and how long it still takes; silent where nobody watches."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("crisp_onnx")


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield `advance(steps)`. Draws only when stderr is a terminal and the log level lets INFO through."""
    if not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO):
        log.debug("%s: %d steps", what, total)
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)
