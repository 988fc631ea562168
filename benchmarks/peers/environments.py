"""A virtual environment a peer, built once under build/peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[2] / "build" / "peers"
REQUIREMENTS = {
    "openvino": ("openvino", "numpy"),
    "deepsparse": ("--only-binary=:all:", "deepsparse==1.8.0"),
    "torch-pruning": ("torch", "torch-pruning==1.6.1"),
}


class Unavailable(Exception):
    """This peer cannot be installed here; the text says why."""


def python_of(peer: str) -> Path:
    """The interpreter that runs `peer`: this one where no requirements are listed.

    Raises:
        Unavailable: the requirements do not install.
    """
    if peer not in REQUIREMENTS:
        return Path(sys.executable)
    folder = PEERS / peer
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    command = [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[peer]]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise Unavailable((installed.stderr.strip().splitlines() or ["pip failed"])[-1])
    done.touch()
    return python
