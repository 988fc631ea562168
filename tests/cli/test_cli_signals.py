"""Which signals end a run, and how."""

from __future__ import annotations

import signal

import pytest

from crisp_onnx.cli_signals import heard
from crisp_onnx.writing import undisturbed

HANGUP = getattr(signal, "SIGHUP", None)
pytestmark = pytest.mark.skipif(HANGUP is None, reason="a system without SIGHUP")


def test_a_terminal_that_is_closed_ends_a_run_as_sigterm_does():
    before = signal.getsignal(HANGUP)
    with pytest.raises(SystemExit) as stop, heard():
        signal.raise_signal(HANGUP)
    assert stop.value.code == 128 + HANGUP
    signal.signal(HANGUP, before)


def test_what_nohup_has_ignored_stays_ignored(monkeypatch):
    before = signal.signal(HANGUP, signal.SIG_IGN)
    try:
        with heard(), undisturbed():
            signal.raise_signal(HANGUP)
        assert signal.getsignal(HANGUP) is signal.SIG_IGN
    finally:
        signal.signal(HANGUP, before)
