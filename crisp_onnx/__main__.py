"""The program `crisp-onnx`, also `python -m crisp_onnx`: deaf to no Ctrl-C while the command line is still loading."""

import os
import signal


def main() -> None:
    """Load the command line and run it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from crisp_onnx.cli import main as run

    run()


def _leave(number: int, frame: object) -> None:
    """Nothing is under way yet that would have to be cleared away."""
    os.write(2, b"Interrupted; nothing was written.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
