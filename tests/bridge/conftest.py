"""Small models: written as ONNX text, and exported by torch, each by both of its exporters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import pytest

from crisp_onnx.model import Model

Parse = Callable[..., Model]


@pytest.fixture
def parse() -> Parse:
    """`parse(text, opset=17)`: the graph written as ONNX text, checked, as a model."""

    def model(text: str, opset: int = 17) -> Model:
        proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
        onnx.checker.check_model(proto)
        return Model(proto, Path("text.onnx"), "")

    return model
