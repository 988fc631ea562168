"""Which sums are residual blocks, and that a network stands without them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crisp_onnx.groups.blocks import residual_blocks
from crisp_onnx.model import Model, tensor_shapes
from crisp_onnx.passes import DropBlocks, run_passes

WEIGHTS = "<float[4,3,1,1] s, float[4,4,1,1] a, float[4,4,1,1] b, float[4,4,1,1] c, float[2,4,1,1] d>"
HEAD = f"(float[N,3,4,4] x) => (float[N,2,4,4] y) {WEIGHTS}"
TWO = "h = Conv(x, s) p = Conv(h, a) q = Relu(p) [one] r = Add(q, h) t = Conv(r, b) [two] u = Add(r, t) y = Conv(u, d)"


def names(model: Model) -> list[str]:
    return [block.name for block in residual_blocks(model.graph(), tensor_shapes(model))]


def test_a_sum_of_a_tensor_and_of_a_branch_out_of_it_is_a_block(model_of: Callable[..., Model]) -> None:
    model = model_of(f"{HEAD} {{ {TWO} }}")
    found = residual_blocks(model.graph(), tensor_shapes(model))
    assert [(block.name, block.start, block.end, len(block.nodes)) for block in found] == [
        ("one", "h", "r", 2), ("two", "r", "u", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, s) g = Conv(x, s) p = Conv(g, a) r = Add(h, p) y = Conv(r, d)",  # a branch out of elsewhere
        "h = Conv(x, s) p = Conv(h, a) r = Add(h, p) q = Mul(p, r) y = Conv(q, d)",  # of which more is read
        "h = Conv(x, s) p = Conv(h, a) q = Conv(h, b) r = Add(q, p) y = Conv(r, d)",  # a projection
        "h = Conv(x, s) p = GlobalAveragePool(h) r = Add(p, h) y = Conv(r, d)",  # of another shape: still a block
    ],
)
def test_other_sums_are_none(model_of: Callable[..., Model], body: str) -> None:
    assert len(names(model_of(f"{HEAD} {{ {body} }}"))) == ("GlobalAverage" in body)


def test_an_output_is_not_dropped(model_of: Callable[..., Model]) -> None:
    assert names(model_of(f"(float[N,3,4,4] x) => (float[N,4,4,4] r) {WEIGHTS}"
                          "{ h = Conv(x, s) p = Conv(h, a) r = Add(h, p) }")) == []  # fmt: skip


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1)])
def test_without_blocks_the_answers_are_those_of_branches_of_zero(
    model_of: Callable[..., Model], answers: Callable[..., list[np.ndarray]], gone: tuple[int, ...]
) -> None:
    model = model_of(f"{HEAD} {{ {TWO} }}")
    blocks = residual_blocks(model.graph(), tensor_shapes(model))
    graph, zeros = model.graph(), model.graph()
    run_passes((DropBlocks([blocks[place] for place in gone]),), graph)
    for place in gone:
        zeros.tensors()["ab"[place]].values = np.zeros((4, 4, 1, 1), np.float32)
    image = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    short = model.with_graph(graph)
    assert np.allclose(answers(short, image)[0], answers(model.with_graph(zeros), image)[0], atol=1e-6)
    assert sum(node.op == "Conv" for node in short.graph().nodes) == 4 - len(gone)
