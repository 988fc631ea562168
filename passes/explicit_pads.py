"""Write the padding that auto_pad means into `pads`, where the input's size is known or does not matter."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from crisp_onnx.passes.result import Declined, PassResult, constant


class ExplicitPads:
    """SAME_UPPER, SAME_LOWER and VALID of a convolution become plain `pads`."""

    name = "explicit_pads"

    def run(self, graph: gs.Graph) -> PassResult:
        changed, declined = 0, []
        for node in graph.nodes:
            mode = node.attrs.get("auto_pad", "NOTSET")
            if node.op != "Conv" or mode == "NOTSET" or not constant(node.inputs[1]):
                continue
            window = [int(k) for k in node.inputs[1].shape[2:]]
            sides = _sides(node, window)
            if mode != "VALID" and sides is None:
                declined.append(Declined(self.name, node.name, f"auto_pad={mode} and the input's size is unknown"))
                continue
            node.attrs["pads"] = [0] * 2 * len(window) if mode == "VALID" else _same(node, mode, sides or [], window)
            del node.attrs["auto_pad"]
            changed += 1
        return PassResult(changed, tuple(declined))


def _sides(node: gs.Node, window: list[int]) -> list[int] | None:
    """Sides of the input, or any where a stride of one makes the padding the same for all; None where unknown."""
    if all(stride == 1 for stride in node.attrs.get("strides", ())):
        return [1] * len(window)
    shape = node.inputs[0].shape
    if not shape or not all(isinstance(side, int) for side in shape[2:]):
        return None
    return [int(side) for side in shape[2:]]


def _same(node: gs.Node, mode: str, sides: list[int], window: list[int]) -> list[int]:
    """ONNX Conv: the output has ceil(side / stride) positions; an odd pad goes to the end for SAME_UPPER."""
    strides = node.attrs.get("strides", [1] * len(window))
    dilations = node.attrs.get("dilations", [1] * len(window))
    begins, ends = [], []
    for side, kernel, stride, dilation in zip(sides, window, strides, dilations, strict=True):
        total = max(0, (-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side)
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        ends.append(total - begins[-1])
    return begins + ends
