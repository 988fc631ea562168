"""What channels are worth to the user's classes: how far their scores move, image by image, when a channel goes.

Every channel has a gate that moves it between itself (1) and its mean (0), which a bias can give in its place. With
scores z among the user's classes, the worth is E|dz/dgate|^2: what a shut gate does to the scores, to second order of
the gate (a Gauss-Newton form of the gates' Fisher information: Theis et al., arXiv 1801.05787; Molchanov et al., arXiv
1906.10771). The scores themselves are asked, not their loss: an image of which the model is sure has next to no loss,
and would say next to nothing. No labels are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from crisp_onnx.bridge import GraphModule, to_batch
from crisp_onnx.data import Images
from crisp_onnx.groups import ChannelGroup
from crisp_onnx.progress import bar
from crisp_onnx.task import Classification
from crisp_onnx.task.loss import logits_of, wanted_logits

Floats = npt.NDArray[np.float64]
MOST_IMAGES, MEAN_IMAGES = 512, 256
DRAWS = 2
SMALLEST = 1e-30


def channel_worth(
    module: GraphModule, gates: str, count: int, images: Images, task: Classification, *, batch_size: int, seed: int = 0
) -> Floats:
    """(count,): the worth of each gate. `gates`: the module's second input, (n, count); see `InsertGates`.

    E|J^T v|^2 over random directions v among the scores is E|J|^2, one backward pass for each direction. At most 512
    images are asked.
    """
    module.eval().requires_grad_(False)
    device = next(module.parameters()).device
    random = torch.Generator().manual_seed(seed)
    places = _some(len(images), MOST_IMAGES, seed)
    total = torch.zeros(count, dtype=torch.float64, device=device)
    image, names = module.input_names[0], module.output_names[: len(task.every)]
    with bar("channels", len(places)) as advance:
        for inputs, _ in images.batches(batch_size, order=places):
            gate = torch.ones(len(inputs), count, device=device, requires_grad=True)
            found = module.run({image: to_batch(inputs, device), gates: gate}, names)
            every = [
                wanted_logits(logits_of(found[name], each), each) for name, each in zip(names, task.every, strict=True)
            ]
            for draw in range(DRAWS):
                drawn = torch.stack([(_direction(scores, random) * scores).sum() for scores in every]).sum()
                (gradient,) = torch.autograd.grad(drawn, [gate], retain_graph=draw + 1 < DRAWS)
                total += gradient.double().square().sum(0)
            advance(len(inputs))
    return (total / (DRAWS * len(places))).cpu().numpy()


def _direction(scores: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Drawn from a normal distribution; classes compete, so that what all scores have in common says nothing."""
    direction = torch.randn(scores.shape, generator=random).to(scores.device)
    return direction - direction.mean(1, keepdim=True) if scores.shape[1] > 1 else direction


def channel_means(
    module: GraphModule, places: Sequence[tuple[str, int]], images: Images, *, batch_size: int, seed: int = 0
) -> dict[tuple[str, int], Floats]:
    """The mean along each axis of a tensor, for each index, over at most 256 images."""
    device, names = next(module.parameters()).device, list(dict.fromkeys(name for name, _ in places))
    sums: dict[tuple[str, int], torch.Tensor] = {}
    counts: dict[tuple[str, int], int] = dict.fromkeys(places, 0)
    module.eval()
    with torch.no_grad():
        for inputs, _ in images.batches(batch_size, order=_some(len(images), MEAN_IMAGES, seed)):
            seen = module.run({module.input_names[0]: to_batch(inputs, device)}, names)
            for name, axis in places:
                values = seen[name].double()
                total = values.sum([place for place in range(values.ndim) if place != axis])
                sums[name, axis] = sums.get((name, axis), torch.zeros_like(total)) + total
                counts[name, axis] += values.numel() // values.shape[axis]
    return {place: (total / counts[place]).cpu().numpy() for place, total in sums.items()}


def weight_norms(groups: Sequence[ChannelGroup], stored: Mapping[str, npt.NDArray[np.float32]]) -> list[Floats]:
    """For each group, the mean square of what each of its channels has in stored tensors of two axes and more.

    Each tensor's share is taken over its own mean, so that groups compare.
    """
    found = []
    for group in groups:
        total: Floats = np.zeros(group.width)
        for member in group.members:
            values = stored[member.tensor]
            if values.ndim < 2:
                continue
            others = tuple(axis for axis in range(values.ndim) if axis != member.axis)
            squares = np.square(values, dtype=np.float64).mean(others)
            own = squares[member.indices(np.arange(group.width))].reshape(group.width, -1).sum(1)
            total += own / max(float(squares.mean()) * member.span, SMALLEST)
        found.append(total / max(1, len(group.members)))
    return found


def by_group(flat: Floats, widths: Mapping[int, int]) -> dict[int, Floats]:
    """Gates in their order -> by the number of the group; `widths` in the order of the gates."""
    found, first = {}, 0
    for number, width in widths.items():
        found[number] = flat[first : first + width]
        first += width
    return found


def _some(count: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)[:most]
