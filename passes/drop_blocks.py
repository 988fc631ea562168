"""Drop residual blocks: what is added to them goes on alone."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from crisp_onnx.groups.blocks import ResidualBlock
from crisp_onnx.passes.result import PassResult, read_instead


class DropBlocks:
    """Every reader of a block's sum reads what the block read."""

    name = "drop_blocks"

    def __init__(self, blocks: Sequence[ResidualBlock]) -> None:
        self.blocks = tuple(blocks)

    def run(self, graph: gs.Graph) -> PassResult:
        tensors = graph.tensors()
        into = {block.end: block.start for block in self.blocks}
        for block in self.blocks:
            start = block.start
            while start in into:  # the block before it goes too
                start = into[start]
            read_instead(tensors[block.end], tensors[start])
        return PassResult(len(self.blocks))
