"""Answer files by whichever ONNX Runtime this Python has: `python older_runtime.py FOLDER`.

For each NAME.onnx and NAME.npz (inputs): the answers in NAME.answers.npz, the graph as it runs in NAME.ran.onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.npz")):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(path.with_suffix(".ran.onnx"))
        session = ort.InferenceSession(str(path.with_suffix(".onnx")), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = session.run(names, dict(np.load(path)))
        np.savez(path.with_suffix(".answers"), **dict(zip(names, found, strict=True)))
    print(ort.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
