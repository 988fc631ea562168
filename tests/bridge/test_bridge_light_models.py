"""The topologies that come with the onnx package, with random weights in place of their constant ones."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from crisp_onnx.bridge import GraphModule, compare_with_runtime, to_torch, write_back
from crisp_onnx.model import load, upgrade

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LARGE = ("bvlc_alexnet", "vgg19", "zfnet512")  # up to 575 MB of weights
NAMES = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")


def _randomise(module: GraphModule) -> None:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.uniform_(0.1, 0.5, generator=random)
        for name in module.statistics:
            module.get_statistic(name).uniform_(0.1, 0.5, generator=random)


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_a_light_model_answers_as_the_runtime(name: str) -> None:
    path = FOLDER / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"this onnx package has no {path}")
    model = upgrade(load(path))
    module = to_torch(model)
    if name not in LARGE:
        _randomise(module)
        model = write_back(module, model)
    assert compare_with_runtime(module, model) < 1e-5
