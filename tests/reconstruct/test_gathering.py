"""How many images a fit looks at follows from what one costs."""

from __future__ import annotations

import pytest

from crisp_onnx.reconstruct.gathering import FIT, Look


@pytest.mark.parametrize(
    ("macs", "wanted"),
    [(0, 100), (9, 100), (10, 100), (20, 50), (99, 10), (100, 10), (10**12, 10)],
)
def test_a_network_that_multiplies_little_is_shown_more_images(macs: int, wanted: int) -> None:
    assert Look(most=100, least=10, macs=1000).images(macs) == wanted


def test_the_fit_of_a_resnet_50_sees_256_images_and_that_of_a_mobilenet_over_a_thousand() -> None:
    assert FIT.images(4_089_000_000) == 256
    assert 1000 < FIT.images(569_000_000) < FIT.most
