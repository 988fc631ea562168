"""Stage 10, estimate: cycles, energy, memory and the limiting resource of every layer on a target."""

from crisp_onnx.cost.estimator import Amdahl, Estimate, Variant, estimate
from crisp_onnx.cost.layer import LayerCost, cost_layer

__all__ = ["Amdahl", "Estimate", "LayerCost", "Variant", "cost_layer", "estimate"]
