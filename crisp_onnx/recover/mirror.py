"""Ask the model whether mirror images mean the same to it: faces and cats do, digits and traffic signs do not."""

from __future__ import annotations

import torch

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.recover.task import Task
from crisp_onnx.task.loss import logits_of, preferred

TOLERATED_LOSS = 0.02
IMAGES = 256


def mirror_safe(
    module: GraphModule, images: Images, task: Task, *, batch_size: int = 32, channels_last: bool = False
) -> bool:
    """Whether the model is right on mirrored images nearly as often as on the images themselves.

    Without labels, "right" is the class it prefers on the plain image. At most 256 images are asked.
    """
    device = next(module.parameters()).device
    places = torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().long().numpy()
    right = [0, 0]
    module.eval()
    with torch.no_grad():
        for inputs, labels in images.batches(batch_size, order=places):
            plain = to_batch(inputs, device)
            answers = []
            for batch in (plain, plain.flip(2 if channels_last else 3)):
                answers.append(preferred(logits_of(module(batch), task.answers), task.answers))
            truth = answers[0] if labels is None else torch.from_numpy(labels).to(device)
            right = [count + int((answer == truth).sum()) for count, answer in zip(right, answers, strict=True)]
    return right[1] >= right[0] - TOLERATED_LOSS * len(places)
