"""Fixtures for pass tests: a plan for a model, and a pass run whose answers before and after are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from crisp_onnx.format import Pattern, with_bodies
from crisp_onnx.masks import Candidates, Plan, Threshold, reason_to_stay_dense
from crisp_onnx.model import Model, tensor_shapes, weight_layers, with_value_info
from crisp_onnx.passes import Declined, Pass, run_passes


@dataclass(frozen=True)
class Rewritten:
    """A model after passes; `counts` are its operators."""

    model: Model
    graph: gs.Graph
    declined: tuple[Declined, ...]

    @property
    def counts(self) -> dict[str, int]:
        operators = [node.op for node in self.graph.nodes]
        return {op: operators.count(op) for op in dict.fromkeys(operators)}

    @property
    def reasons(self) -> list[str]:
        return [declined.reason for declined in self.declined]


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """A plan from the weights' size; every layer that can be sparse is, the first convolution included."""

    def plan(model: Model, pattern: Pattern | None = None, kept: float = 0.25) -> Plan:
        chosen = pattern or Pattern(2, 4, 8, 2)
        graph = model.graph()
        layers = weight_layers(model, tensor_shapes(model))
        stored = {t.name: t.values for t in graph.tensors().values() if isinstance(t, gs.Constant)}
        saliency = {layer.weight: np.abs(layer.matrix(stored[layer.weight])) for layer in layers}
        reasons = {layer.name: reason_to_stay_dense(layer, chosen) for layer in layers}
        return Threshold(Candidates(layers, chosen, reasons), kept).plan(saliency)

    return plan


@pytest.fixture
def rewrite(answers: Callable[..., list[np.ndarray]]) -> Callable[..., Rewritten]:
    """Run passes on a model; the answers before and after must be the same, and the result a valid file.

    Before: `reference`, by default the model itself (passes that apply masks change the answers on purpose).
    """

    def run(
        model: Model,
        passes: Sequence[Pass],
        *,
        x: np.ndarray | None = None,
        reference: Model | None = None,
        shapes: bool = True,
    ) -> Rewritten:
        informed = with_value_info(model) if shapes else model
        graph = informed.graph()
        declined = run_passes(passes, graph)
        after = with_bodies(informed.with_graph(graph))
        onnx.checker.check_model(after.proto, full_check=True)
        if x is None:
            x = np.random.default_rng(5).standard_normal(model.input.fixed(2, (8, 8))).astype(np.float32)
        for one, other in zip(answers(reference or model, x), answers(after, x), strict=True):
            assert one.shape == other.shape
            scale = max(1e-6, np.abs(one).max())
            assert np.abs(np.subtract(one, other, dtype=np.float64)).max() <= 1e-5 * scale
        assert [o.name for o in graph.outputs] == [o.name for o in model.proto.graph.output]
        return Rewritten(after, graph, declined)

    return run
