"""`inspect --netron` in a real browser: what the file holds is on the page, until Ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, MISSING, page

pytest.importorskip("netron", reason="inspect --netron needs it: pip install netron")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=MISSING)

COMMAND = (sys.executable, "-c", "from crisp_onnx.cli import main; main()")


def test_netron_shows_inputs_and_pattern_and_ends_with_ctrl_c(compressed: Path) -> None:
    server = subprocess.Popen(
        [*COMMAND, "inspect", str(compressed / "model.onnx"), "--netron"], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "BROWSER": "true"},
    )  # fmt: skip
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "http://" in line)
        address = re.search(r"http://\S+", line)
        assert address is not None
        with page() as tab:
            tab.open(address[0], 1280)
            consent = (
                "[...document.querySelectorAll('button')].find(b => b.offsetParent && /accept/i.test(b.innerText))"
            )
            drawn = "document.querySelector('#canvas .node') !== null"
            tab.wait(f"{consent} !== undefined || {drawn}")
            tab.ask(f"({consent} || {{click() {{}}}}).click()")
            tab.wait(drawn)
            text = tab.ask("document.querySelector('#canvas').textContent")
            assert "image" in text
            assert "HybridConv" in text
            node = "[...document.querySelectorAll('#canvas .node')].find(n => n.textContent.includes('HybridConv'))"
            tab.ask(f"{node}.querySelector('.node-item-type, .node-item').dispatchEvent(new MouseEvent('click', "
                    "{bubbles: true}))")  # fmt: skip
            names = "[...document.querySelectorAll('#sidebar input')].map(input => input.value)"
            side = tab.wait(f"{names}.length && {names}")
            assert {"n", "m", "block", "vector_rows"} <= set(side)
            assert "\n16\n" in tab.ask("document.querySelector('#sidebar').innerText")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
        assert server.returncode == 0, err
        assert "hybrid layers" in out
        assert "Traceback" not in err
    finally:
        server.kill()
        server.wait()
