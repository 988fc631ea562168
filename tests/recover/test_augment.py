"""Labels of pixels move with their images, and are ignored where the image has moved away."""

from __future__ import annotations

import pytest
import torch

from crisp_onnx.recover.augment import augment


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_labels_of_pixels_follow_their_image(flip: bool, channels_last: bool) -> None:
    labels = torch.randint(1, 9, (12, 16, 24), generator=torch.Generator().manual_seed(0))
    planes = labels[:, None].float().repeat(1, 3, 1, 1)
    given = planes.permute(0, 2, 3, 1) if channels_last else planes
    options = {"flip": flip, "channels_last": channels_last}
    shown, found = augment(given, labels, torch.Generator().manual_seed(1), **options)
    alone, _ = augment(given, None, torch.Generator().manual_seed(1), **options)
    seen = (shown.permute(0, 3, 1, 2) if channels_last else shown)[:, 0]
    assert torch.equal(shown, alone) and found is not None
    assert torch.equal(torch.where(found == 255, 0, found).float(), seen)
    assert (found == 255).any() and not torch.equal(found, labels)


def test_images_that_are_not_shifted_are_mirrored_alone() -> None:
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12 * 16 * 16).reshape(12, 16, 16)
    shown, found = augment(images, labels, torch.Generator().manual_seed(1), flip=True, shift=False)
    mirrored = [not torch.equal(one, other) for one, other in zip(images, shown, strict=True)]
    assert any(mirrored) and not all(mirrored) and found is not None
    for place, flip in enumerate(mirrored):
        assert torch.equal(shown[place], images[place].flip(-1) if flip else images[place])
        assert torch.equal(found[place], labels[place].flip(-1) if flip else labels[place])


def test_labels_of_whole_images_stay() -> None:
    labels = torch.arange(4)
    _, found = augment(torch.rand(4, 3, 16, 16), labels, torch.Generator().manual_seed(0), flip=True)
    assert found is labels
