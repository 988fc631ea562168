"""The command line, called as a user calls it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from crisp_onnx.cli import cli


def run(*words: str | Path) -> Result:
    """What a command printed and how it ended; a fault in the program is raised."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
