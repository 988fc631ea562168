"""The device: what torch knows and can compute on, and a sentence for the rest."""

from __future__ import annotations

import pytest
import torch

from crisp_onnx.api.device import find_device
from crisp_onnx.errors import CrispError


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "cpu:3"])
def test_the_processor_is_one_device(name: str) -> None:
    assert find_device(name) == torch.device("cpu")


ABSENT = ["meta", "gpu", "cuda:99", "xla", "vulkan", "privateuseone", "", "cpu:-1", "cpu:1:2", "\x1b[31mx", "\ud800"]


@pytest.mark.parametrize("name", [*ABSENT, "x" * 5000], ids=range(12))
def test_what_cannot_compute_here_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(CrispError, match="Use --device cpu") as refused:
        find_device(name)
    assert str(refused.value).isprintable()
