"""Try on two images what training will do for an hour, so that what cannot be trained is refused at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from crisp_onnx.bridge.module import GraphModule
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Size, TensorSpec
from crisp_onnx.model.answers import seeded_image
from crisp_onnx.reading import border, shown


def rehearse(module: GraphModule, spec: TensorSpec, weights: Sequence[str], *, batch: int | None, size: Size) -> None:
    """One step forward and back, on two images or the `batch` that the file fixes; the module stays as it was.

    Raises:
        CrispError: an operator cannot be trained, or no gradient reaches one of `weights`.
    """
    statistics = {name: module.get_statistic(name).clone() for name in module.statistics}
    images = torch.from_numpy(seeded_image(spec, batch or 2, size))
    module.train(len(images) > 1)
    parameters = dict(module.named_parameters())
    try:
        with border("The model cannot be trained"):
            answers = torch.stack([own.float().sum() for own in module.several(images, module.output_names)]).sum()
            if not answers.requires_grad:
                raise CrispError("The model cannot be trained: no gradient comes through its graph.")
            gradients = torch.autograd.grad(answers, [parameters[name] for name in weights], allow_unused=True)
    finally:
        module.eval()
        with torch.no_grad():
            for name, value in statistics.items():
                module.get_statistic(name).copy_(value)
    unreached = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]
    if unreached:
        raise CrispError(
            f"The model cannot be trained: no gradient reaches weight {shown(unreached[0])!r} and {len(unreached) - 1} "
            "more. Something between them and the output rounds, compares or counts. Leave those layers dense with "
            "--keep-dense."
        )
