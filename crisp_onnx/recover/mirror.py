"""Ask the model whether mirror images mean the same to it: faces and cats do, digits and traffic signs do not."""

from __future__ import annotations

import torch

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.recover.task import Task
from crisp_onnx.task.loss import UNCOUNTED, logits_of, preferred, truths_of

TOLERATED_LOSS = 0.02
IMAGES = 256


def mirror_safe(
    module: GraphModule, images: Images, task: Task, *, batch_size: int = 32, channels_last: bool = False
) -> bool:
    """Whether the model is right on mirrored images nearly as often as on the images themselves.

    Without labels, "right" is the class it prefers on the plain image. At most 256 images are asked.
    """
    device, answers = next(module.parameters()).device, task.answers
    places = torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().long().numpy()
    right, counted = [0, 0], 0
    module.eval()
    with torch.no_grad():
        for inputs, labels in images.batches(batch_size, order=places):
            shown = to_batch(inputs, device)
            plain = logits_of(module(shown), answers)
            mirrored = logits_of(answers.mirrored(module(shown.flip(2 if channels_last else 3))), answers)
            truth = truths_of(plain, None if labels is None else torch.from_numpy(labels).to(device), answers)
            counted += int((truth != UNCOUNTED).sum())
            for place, logits in enumerate((plain, mirrored)):
                right[place] += int((preferred(logits, answers) == truth).sum())
    return right[1] >= right[0] - TOLERATED_LOSS * counted
