"""What every reader of foreign files shares: one border for their errors, limits of size, and strict YAML."""

from crisp_onnx.reading.foreign_errors import border, reason, shown
from crisp_onnx.reading.paths import require_utf8
from crisp_onnx.reading.strict_yaml import read_yaml, read_yaml_words, yaml_text
from crisp_onnx.reading.text import line_count, read_text

__all__ = [
    "border",
    "line_count",
    "read_text",
    "read_yaml",
    "read_yaml_words",
    "reason",
    "require_utf8",
    "shown",
    "yaml_text",
]
