"""The orders of class folders, and a few images of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crisp_onnx.data.folder_order import folder_images, in_order
from crisp_onnx.data.preprocess import Preprocess

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (8, 8), scale=1.0)


@pytest.mark.parametrize(
    ("lexical", "natural"),
    [
        (["1", "10", "11", "2"], ["1", "2", "10", "11"]),
        (["0", "180", "270", "90"], ["0", "90", "180", "270"]),
        (["class1", "class10", "class2"], ["class1", "class2", "class10"]),
        (["class_01", "class_02", "class_10"], ["class_01", "class_02", "class_10"]),
        (["Zebra", "apple"], ["apple", "Zebra"]),
        (["a-1", "a-10", "a-2"], ["a-1", "a-2", "a-10"]),
        (["1", "01"], ["01", "1"]),
        (["a", "7"], ["7", "a"]),
    ],
)
def test_folders_sort_as_text_or_as_people_count(lexical: list[str], natural: list[str]) -> None:
    assert in_order(natural, "lexical") == tuple(sorted(lexical))
    assert in_order(lexical, "natural") == tuple(natural)


@given(st.lists(st.integers(0, 10**20).map(str), unique=True))
def test_natural_order_of_numbers_is_theirs(names: list[str]) -> None:
    small = [name for name in names if len(name) < 18]
    assert in_order(small, "natural") == tuple(sorted(small, key=int))
    assert sorted(in_order(names, "natural")) == sorted(names)


def test_a_few_images_of_each_folder_carry_its_place(tmp_path: Path) -> None:
    for place, name in enumerate(("b", "c", "a")):
        (tmp_path / name / "deep").mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8, 3), 10 * place + number, np.uint8)).save(
                tmp_path / name / "deep" / f"{number}.png"
            )
        (tmp_path / name / "notes.txt").write_text("x")
    images = folder_images(tmp_path, ["c", "a"], 2, RAW)
    ((x, y),) = images.batches(9)
    assert [(int(image[0, 0, 0]), label) for image, label in zip(x, y, strict=True)] == [
        (10, 0),
        (11, 0),
        (20, 1),
        (21, 1),
    ]
