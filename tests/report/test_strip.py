"""The picture strip: what is in which colour, and what is grey because it is not judged."""

from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
from PIL import Image

from crisp_onnx.report.schema import ClassEntry
from crisp_onnx.report.strip import NOT_JUDGED, painted, palette, strip
from crisp_onnx.task.overlap import Shown

CLASSES = tuple(ClassEntry(index=i, name=name) for i, name in ((0, "ground"), (2, "disc <2>"), (5, "ring")))


def test_a_strip_shows_image_truth_and_both_answers_with_the_share_that_is_right() -> None:
    truth = np.array([[0, 2], [4, 255]])
    picture = Shown(7, np.full((2, 2, 3), 9, np.uint8), truth, (truth, np.array([[2, 2], [0, 0]])))
    found = strip((picture,), CLASSES)
    shown = [np.asarray(Image.open(BytesIO(base64.b64decode(data)))) for data in re.findall(r"base64,([^\"]+)", found)]
    colours = palette([0, 2, 5])
    grey = [NOT_JUDGED, NOT_JUDGED]
    assert (shown[0] == 9).all()
    assert np.array_equal(shown[1], np.array([[colours[0], colours[2]], grey]))
    assert np.array_equal(shown[2], shown[1])
    assert np.array_equal(shown[3], np.array([[colours[2], colours[2]], grey]))
    assert re.findall(r"<figcaption>([^<]+)", found) == ["image", "truth", "dense 100.0 %", "compressed 50.0 %"]
    assert "disc &lt;2&gt;" in found
    assert "image 7" in found


def test_an_image_without_a_judged_pixel_has_no_share_that_is_right() -> None:
    truth = np.array([[1, 255]])
    found = strip((Shown(0, np.zeros((1, 2, 3), np.uint8), truth, (truth * 0, truth * 0)),), CLASSES)
    assert re.findall(r"<figcaption>([^<]+)", found) == ["image", "truth", "dense", "compressed"]
    assert "share of this image's pixels of your classes" in found.replace("&#x27;", "'")


def test_no_pictures_take_no_place() -> None:
    assert strip((), CLASSES) == ""


def test_large_pictures_become_small_ones() -> None:
    maps = np.zeros((10, 10), int)
    found = strip((Shown(0, np.zeros((400, 200, 3), np.uint8), maps, (maps, maps)),), CLASSES)
    first = Image.open(BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", found)[0])))
    assert first.size == (96, 192)


def test_colours_of_many_classes_differ() -> None:
    assert len(set(palette(range(40)).values())) == 40


def test_only_judged_pixels_are_painted() -> None:
    labels = np.array([[3, 3]])
    found = painted(labels, {3: (1, 2, 3)}, np.array([[True, False]]))
    assert found.tolist() == [[[1, 2, 3], list(NOT_JUDGED)]]
