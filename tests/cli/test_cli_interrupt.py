"""Ctrl-C and closed pipes in a real process: exit 130, nothing half-written, no traceback."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from crisp_onnx import cli

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


IN_MADE_CODE = """
import time
from crisp_onnx import cli
@cli.cli.command("wait")
def wait():
    exec("print('ready', flush=True); time.sleep(60)")
cli.main()
"""


def test_an_interruption_in_code_made_on_the_way_keeps_its_exit_code(tmp_path):
    """As of a dataclass while it is imported: behind a plain KeyboardInterrupt Python would end `-m` by the signal."""
    (tmp_path / "made.py").write_text(IN_MADE_CODE)
    process = subprocess.Popen(
        [sys.executable, "-m", "made", "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "\nInterrupted; nothing was written.\n"


def test_what_is_kept_for_a_run_that_goes_on_is_not_called_nothing(monkeypatch, capsys, tmp_path):
    """Click puts an exception of its own in the place of ours, and what ours says is told all the same."""

    def stopped(recipe, *, resume):
        raise KeyboardInterrupt

    monkeypatch.setattr("crisp_onnx.api.compress", stopped)
    monkeypatch.setattr(sys, "argv", ["crisp-onnx", "compress", "m.onnx", "--classes", "cls.txt", "--resume"])
    assert cli._run() == 130
    assert "what was reached is kept, and the same command with --resume goes on" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", sys.argv[:-1])
    assert cli._run() == 130
    assert "nothing was written" in capsys.readouterr().err


DEAF = """
import sys, time
from crisp_onnx import cli, cli_signals
@cli.cli.command("wait")
def wait():
    print("ready", flush=True)
    import numpy as np, onnxruntime as ort
    from onnx import parser
    model = parser.parse_model('''<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y)
      <int64 trips = {4611686018427387904}, bool go = {1}> {
        y = Loop(trips, go, x)<body = b (int64 i, bool c, float[1] v) => (bool d, float[1] u)
          { d = Identity(c) u = Add(v, v) }> }''')
    ort.InferenceSession(model.SerializeToString()).run(None, {"x": np.ones(1, np.float32)})
cli_signals.PATIENCE_S = 0.5
cli.main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_code_that_hears_nothing_is_ended_too(sent):
    """An endless Loop of ONNX Runtime, which no handler of Python's ever interrupts."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.5)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert err == "Interrupted; nothing was written.\n"


@pytest.mark.slow
def test_at_whatever_moment_it_is_interrupted_there_is_no_traceback(workplace, tmp_path):
    """50 runs, one or two signals at random moments, those in which everything is still being imported among them."""
    chance, codes = random.Random(0), Counter()
    for number in range(50):
        out = tmp_path / "out"
        words = [sys.executable, "-m", "crisp_onnx", *workplace.options, "-q", "-o", str(out)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.15 + chance.uniform(0, 1.0 if number % 2 else 4.0))
        for _ in range(chance.choice((1, 2))):
            process.send_signal(signal.SIGINT)
            time.sleep(chance.uniform(0, 0.2))
        _, err = process.communicate(timeout=120)
        codes[process.returncode] += 1
        assert "Traceback" not in err
        assert process.returncode in (0, 130), err
        shutil.rmtree(out, ignore_errors=True)
        assert list(tmp_path.iterdir()) == []
    assert codes[130] >= 25
