"""Whatever became of stdout and stderr, a run is not lost, the fault is a sentence, and the exit code is right."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from crisp_onnx.cli import main
from crisp_onnx import cli
import click
@cli.cli.command("say")
def say():
    from crisp_onnx.cli_options import tell, talk
    from crisp_onnx.report.table import rows_table
    import logging, os
    talk(0)
    logging.getLogger("crisp_onnx").info("talk of caf\\xe9 \\udce9 \\x1b[31mred")
    with open(os.devnull) as file:
        assert file.fileno() > 2
    table = rows_table("[b]title\\x1b]0;owned\\x07", ("caf\\xe9",), [("\\udce9 \\x1b[2J \\u202e",)])
    tell({"name": "\\udce9"}, lambda found: (table,), "--json" in sys.argv)
cli.cli.params.append(click.Option(["--json"], is_flag=True, expose_value=False))
main()
"""


def said(redirection: str, words: str = "say", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the script above by a shell with the given redirections."""
    line = f'exec "$0" -c "$1" {words} {redirection}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable, SCRIPT], capture_output=True, check=False, timeout=60, env=variables
    )


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "</dev/null 2>&-", "0<&- 2>&-"])
def test_talk_that_nobody_can_hear_changes_nothing(redirection):
    done = said(redirection)
    assert done.returncode == 0
    assert b"title" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("redirection", "why"), [(">/dev/full", b"No space left on device"), (">&-", b"Bad file descriptor")]
)
def test_a_result_that_cannot_be_printed_is_said_and_exits_with_2(redirection, why):
    for words in ("say", "--json say"):
        done = said(redirection, words)
        assert done.returncode == 2
        assert b"Error: The result cannot be printed: " + why in done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr
    assert said(f"{redirection} 2>&-").returncode == 2


def test_a_reader_that_has_seen_enough_is_no_fault():
    line = 'set -o pipefail; "$0" -c "$1" say 2>err | true; echo "${PIPESTATUS[0]}"; cat err; rm err'
    done = subprocess.run(["bash", "-c", line, sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "0"
    assert "Error" not in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_every_terminal_shows_what_it_can_and_escapes_the_rest(encoding):
    done = said("", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    cafe = "caf\\xe9" if encoding == "ascii" else "café"
    assert f"talk of {cafe} \\xe9 \\x1b[31mred" in err
    assert cafe in out
    assert "[b]title\\x1b]0;owned\\x07" in out
    assert "\\xe9 \\x1b[2J \\u202e" in out
    assert ("─" in out) == (encoding == "utf-8")
    assert "\\u2500" not in out


def test_a_document_holds_what_is_no_unicode_as_escapes():
    assert json.loads(said("", "--json say").stdout) == {"name": "\\xe9"}


@pytest.mark.parametrize("streams", [">/dev/full", ">&- 2>&-"])
def test_a_finished_run_is_written_whatever_becomes_of_the_table(workplace, tmp_path, streams):
    words = [*workplace.options, "--sparsity", "0.99", "-o", str(tmp_path / "out")]
    line = f'exec "$0" -m crisp_onnx "$@" {streams}'
    done = subprocess.run(["sh", "-c", line, sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert {"model.onnx", "report.json", "recipe.yaml"} <= {file.name for file in (tmp_path / "out").iterdir()}
    if "2>" not in streams:
        assert f"No space left on device. Look at where stdout goes. The files are written to {tmp_path}" in done.stderr
        assert "a budget was missed" in done.stderr
        assert "Traceback" not in done.stderr


def test_quiet_prints_no_table(workplace, run):
    assert run("check", workplace.model, "-q").stdout == ""
    assert json.loads(run("check", workplace.model, "-q", "--json").stdout)["operators"]


def test_a_model_is_not_lost_where_its_report_fails(workplace, run, tmp_path, monkeypatch):
    def broken(*arguments: object) -> None:
        raise KeyError("no such layer")

    monkeypatch.setattr("crisp_onnx.api.compression.summarise", broken)
    done = run(*workplace.options, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert f"model.onnx is written to {tmp_path / 'out'}, but not what tells of it: KeyError" in done.stderr
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_what_cannot_be_measured_in_the_end_costs_no_run(workplace, run, tmp_path, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crisp_onnx.api.compression.measure_files", broken)
    monkeypatch.setattr("crisp_onnx.api.compression.open_stock", broken)
    done = run(*workplace.options, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["latency"] is None
    assert report["accuracy"]["reason"] == "No space left on device"
    assert "Latency was not measured: No space left on device" in done.stdout
