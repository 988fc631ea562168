"""Take the greatest of bytes where they are made into real numbers only for that."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from crisp_onnx.format import DOMAIN
from crisp_onnx.format.operators import MAX_POOL
from crisp_onnx.passes.quantise_hybrid import crossed, dequantised
from crisp_onnx.passes.result import PassResult


class BytePools:
    """MaxPool between DequantizeLinear and QuantizeLinear of one grid becomes our operator on the bytes themselves.

    The order of numbers is that of their bytes. Pools with dilations, rounding up or indices stay as they are.
    """

    name = "byte_pools"

    def run(self, graph: gs.Graph) -> PassResult:
        changed = 0
        outputs = {id(tensor) for tensor in graph.outputs}
        for node in [node for node in graph.nodes if node.op == "MaxPool" and node.domain in (None, "", "ai.onnx")]:
            window = _window(node)
            readers = list(node.outputs[0].outputs)
            if (
                window is None
                or len(readers) != 1
                or readers[0].op != "QuantizeLinear"
                or id(node.outputs[0]) in outputs
            ):
                continue
            before, after = dequantised(node.inputs[0]), crossed(readers[0], readers[0].outputs[0])
            if before is None or after is None or before.grid != after.grid:
                continue
            readers[0].outputs.clear()
            node.op, node.domain, node.attrs = MAX_POOL, DOMAIN, window
            node.inputs, node.outputs = [before.tensor], [after.tensor]
            after.tensor.dtype = np.dtype(np.uint8)
            changed += 1
        return PassResult(changed)


def _window(node: gs.Node) -> dict[str, list[int]] | None:
    """Kernel, strides and pads of a pool over two axes that has nothing else, or None."""
    kernel = list(node.attrs.get("kernel_shape", []))
    plain = not node.attrs.get("ceil_mode", 0) and node.attrs.get("auto_pad", "NOTSET") == "NOTSET"
    plain = plain and not node.attrs.get("storage_order", 0) and set(node.attrs.get("dilations", [1, 1])) == {1}
    if len(kernel) != 2 or len(node.outputs) != 1 or not plain:
        return None
    strides, pads = list(node.attrs.get("strides", [1, 1])), list(node.attrs.get("pads", [0] * 4))
    return {"kernel_shape": kernel, "strides": strides, "pads": pads}
