"""Run by torchrun: the command line with a state that is kept at every step."""

import eager_checkpoints  # noqa: F401

from crisp_onnx.cli import main

main()
