"""How channels go through operators: one family a file, one rule an operator."""

from crisp_onnx.groups.rules.table import REASONS, RULES, Rule

__all__ = ["REASONS", "RULES", "Rule"]
