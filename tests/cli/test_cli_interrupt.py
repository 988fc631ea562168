"""Ctrl-C and closed pipes in a real process: exit 130, nothing half-written, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

COMMAND = (sys.executable, "-c", "from crisp_onnx.cli import main; main()")


@pytest.mark.parametrize(
    ("stage", "sent", "expected"),
    [("read", signal.SIGINT, 130), ("recovery", signal.SIGINT, 130), ("recovery", signal.SIGTERM, 143)],
)
def test_an_interruption_in_the_middle_leaves_nothing(workplace, tmp_path, stage, sent, expected):
    """The signal is sent once the log says that the stage before has ended."""
    out = tmp_path / "parent" / "out"
    words = [*workplace.options, "--epochs", "100000", "-o", str(out), "-v"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(90, process.kill)
    timer.start()
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith("read " if stage == "read" else "saliency "):
                process.send_signal(sent)
                break
        rest = process.stderr.read()
        code = process.wait()
    finally:
        timer.cancel()
        process.stderr.close()
        process.stdout.close()
    text = "".join(seen) + rest
    assert code == expected, text
    assert ("Interrupted; nothing was written." in rest) == (sent == signal.SIGINT)
    assert "Traceback" not in text
    assert list(tmp_path.rglob("*")) == []


def test_a_reader_that_closes_the_pipe_gets_no_traceback(workplace):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [*COMMAND, "check", str(workplace.model), "-q"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in process.stderr
    assert process.stderr == ""


SLOW_TO_STOP = """
import sys, time
from crisp_onnx import cli
@cli.cli.command("wait")
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.3)
        print("cleared away", flush=True)
cli.main()
"""


@pytest.mark.parametrize("sent", [(signal.SIGINT,) * 20, (signal.SIGTERM, *(signal.SIGINT,) * 20)])
def test_however_often_it_is_interrupted_it_clears_away_and_shows_no_traceback(sent):
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_TO_STOP, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        for number in sent:
            process.send_signal(number)
            time.sleep(0.03)
        out, err = process.communicate(timeout=30)
        assert out == "cleared away\n"
        assert "Traceback" not in err
        assert process.returncode == 128 + sent[0]
