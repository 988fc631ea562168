"""What a channel is worth: how far the scores move when its gate is shut."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from crisp_onnx.bridge import to_torch
from crisp_onnx.channels import by_group, channel_means, channel_worth, weight_norms
from crisp_onnx.groups import ChannelGroup, Member, channel_groups
from crisp_onnx.model import Model, tensor_shapes, weight_layers
from crisp_onnx.passes import InsertGates, run_pass
from crisp_onnx.task import Classification

TASK = Classification((0, 1, 2), (0, 2), "y", "y")


class Rows:
    """As much of `Images` as is asked: rows in batches."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, order: np.ndarray) -> Iterator[tuple[np.ndarray, None]]:
        for first in range(0, len(order), size):
            yield self.rows[order[first : first + size]], None


def test_worth_is_the_mean_square_of_what_a_shut_gate_does_to_the_wanted_scores(model_of: Callable[..., Model]) -> None:
    model = model_of(
        "(float[N,4] x) => (float[N,3] y) <float[4,5] a, float[5,3] b>{ h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"
    )
    shapes = tensor_shapes(model)
    groups = channel_groups(model.graph(), weight_layers(model, shapes), shapes)
    (group,) = [group for group in groups if group.removable]
    images = Rows(np.random.default_rng(0).standard_normal((512, 4)).astype(np.float32))
    means = channel_means(to_torch(model), [("r", 1)], images, batch_size=64)  # type: ignore[arg-type]
    gates = InsertGates([group], shapes, means)
    graph = model.graph()
    run_pass(gates, graph)
    found = channel_worth(
        to_torch(model.with_graph(graph)), gates.gates, 6, images, TASK, batch_size=64  # type: ignore[arg-type]
    )  # fmt: skip
    a, b = (model.graph().tensors()[name].values for name in "ab")
    hidden = np.maximum(images.rows @ a, 0)
    assert means["r", 1] == pytest.approx(hidden[np.random.default_rng(0).permutation(512)[:256]].mean(0), rel=1e-5)
    wanted = b[:, [0, 2]] - b[:, [0, 2]].mean(1, keepdims=True)
    expected = np.square(hidden - means["r", 1]).mean(0) * np.square(wanted).sum(1)
    assert found[:5] == pytest.approx(expected, rel=0.2)
    assert by_group(found, {7: 5})[7] == pytest.approx(found[:5])


def test_norms_count_every_tensor_alike() -> None:
    group = ChannelGroup(
        2, (Member("a", 0, 0, 2), Member("b", 1, 0, 4, 2, 2), Member("c", 0, 0, 2)), (), (), (), (), (), ()
    )
    stored = {
        "a": np.array([[1, 1], [3, 3]], np.float32),
        "b": np.array([[100, 100, 0, 0]], np.float32),
        "c": np.ones(2, np.float32),
    }
    (found,) = weight_norms([group], stored)
    assert found == pytest.approx(np.array([1 / 5 + 2, 9 / 5]) / 3)
