"""Whether a model can be written in int8 at all, before the first long stage: `check` and `compress` ask the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from crisp_onnx.api.prepare import Prepared
from crisp_onnx.errors import CrispError
from crisp_onnx.masks import Plan
from crisp_onnx.model import save
from crisp_onnx.passes import dense_passes, run_passes
from crisp_onnx.quantize import rehearsed
from crisp_onnx.runtime.evaluate import numbers_of, open_stock
from crisp_onnx.runtime.latency import seeded_input


def require_int8(prepared: Prepared) -> None:
    """Write the model in int8 on grids that mean nothing, and run it.

    Raises:
        CrispError: several outputs are to stay, none of its layers has an int8 form, ONNX Runtime's quantiser fails, or
            what it writes does not run.
    """
    graph, name = prepared.model.graph(), prepared.source.path.name
    if prepared.head.beside:
        raise CrispError(
            "What stays in float32 is chosen by the answers of one output: give --output-name once, or use --precision "
            "fp32."
        )
    run_passes(dense_passes(Plan()), graph)
    found = rehearsed(prepared.model.with_graph(graph), size=prepared.size)
    if not found.layers:
        why = "; ".join(sorted({reason for reason in found.left.values() if reason}))
        raise CrispError(f"No layer of {name} has an int8 form: {why}. Use --precision fp32.")
    with tempfile.TemporaryDirectory(prefix="crisp-int8-") as folder:
        path = Path(folder) / "model.onnx"
        save(found.model, path)
        image = seeded_input(prepared.source.input, batch=1, size=prepared.size)
        try:
            numbers_of(open_stock(path), image, [found.model.outputs[0].name])
        except CrispError as error:
            raise CrispError(f"{name} does not run in int8: {error} Use --precision fp32.") from error
