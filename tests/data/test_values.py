"""Values that go into a model as they are: which arrays fit which inputs, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.sources import input_form, open_images
from crisp_onnx.data.values import AsIs, as_is
from crisp_onnx.errors import CrispError
from crisp_onnx.model.spec import TensorSpec

KEPT = Classes((0, 1), ("a", "b"))
LABELS = np.array([0, 1, 2, 1])


def spec(*shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("x", shape, np.dtype(dtype))


def saved(folder: Path, x: np.ndarray, name: str = "d.npz", **others: np.ndarray) -> Path:  # type: ignore[type-arg]
    np.savez(folder / name, x=x, **others)
    return folder / name


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ((None, 20), (20,)),
        ((4, 20), (20,)),
        ((None, None), (20,)),
        ((None, 2, 30), (2, 30)),
        ((None, 2, None), (2, 30)),
        ((None, None, None), (30, 30)),
        ((None, 5, 8, 6), (5, 8, 6)),
        ((None, 5, None, None), (5, 8, 6)),
        ((None, 8, 6, 5), (8, 6, 5)),
        ((None, 3, 8, 6), (3, 8, 6)),
        ((None, 3, None, None), (3, 8, 6)),
        ((None, 1, 4, 8, 6), (1, 4, 8, 6)),
        ((None,), ()),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_rows_of_the_inputs_shape_go_in_as_they_are(
    tmp_path: Path, shape: tuple[int | None, ...], row: tuple[int, ...], dtype: str
) -> None:
    x = (np.random.default_rng(0).standard_normal((4, *row)) * 100).astype(dtype)
    path = saved(tmp_path, x, y=LABELS)
    form = input_form(None, spec(*shape), path, None)
    assert isinstance(form, AsIs)
    assert spec(*shape).fixed(4, form.size) == x.shape
    ((values, labels),) = open_images(path, KEPT, None, form).batches(9)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, x[[0, 1, 3]].astype(np.float32))
    assert labels is not None
    assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("shape", "row", "message"),
    [
        ((None, 20), (19,), "holds rows of 19, but input 'x' takes 20 each"),
        ((None, 20), (20, 1), "rows of 20x1, but input 'x' takes 20"),
        ((None, 2, 30), (30, 2), "rows of 30x2, but input 'x' takes 2x30"),
        ((None, 5, 8, 8), (8, 8, 5), "rows of 8x8x5"),
        ((None, 20), (), "rows of one value"),
        ((None, None), (0,), "rows of 0"),
        ((None, None, None), (3, 4), "leaves axes open"),
    ],
)
def test_rows_of_another_shape_are_refused(
    tmp_path: Path, shape: tuple[int | None, ...], row: tuple[int, ...], message: str
) -> None:
    path = saved(tmp_path, np.zeros((4, *row), np.float32), y=LABELS)
    with pytest.raises(CrispError, match=message):
        input_form(None, spec(*shape), path)


def test_types_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for x, dtype in (
        (np.zeros((4, 2)), "int64"),
        (np.zeros((4, 2), "c8"), "float32"),
        (np.full((4, 2), "a"), "float32"),
    ):
        with pytest.raises(CrispError, match=f"values, but input 'x' takes {dtype}"):
            input_form(None, spec(None, 2, dtype=dtype), saved(tmp_path, x, y=LABELS))


def test_pixels_stay_pixels_and_preprocessing_is_for_them_alone(tmp_path: Path) -> None:
    image = spec(None, 3, 8, 8)
    pixels = saved(tmp_path, np.zeros((4, 8, 8, 3), np.uint8), y=LABELS)
    floats = saved(tmp_path, np.zeros((4, 3, 8, 8), np.float32), "f.npz", y=LABELS)
    assert isinstance(input_form("unit", image, pixels, None), Preprocess)
    assert isinstance(input_form("unit", image, None, "no/such.npz"), Preprocess)
    with pytest.raises(CrispError, match=r"go into the model as they are\. Leave --preprocess out"):
        input_form("unit", image, floats)
    with pytest.raises(CrispError, match=r"because input 'x' \(\?x4x8x8\) takes no images.*Leave --preprocess out\.$"):
        input_form("unit", spec(None, 4, 8, 8), pixels)
    with pytest.raises(CrispError, match="Give both in one form"):
        input_form(None, image, floats, pixels)
    with pytest.raises(CrispError, match="rows of different shapes"):
        other = saved(tmp_path, np.zeros((4, 3), np.float32), "o.npz", y=LABELS)
        input_form(None, spec(None, None), other, saved(tmp_path, np.zeros((4, 4), np.float32), "p.npz", y=LABELS))
    with pytest.raises(CrispError, match=r"takes no images.* Give --data an \.npz"):
        input_form(None, spec(None, 20), None)
    with pytest.raises(CrispError, match=r"takes rows of \(20,\)\. Give them as an \.npz"):
        open_images(tmp_path, KEPT, None, as_is(spec(None, 20), (1, 20), np.dtype(float), "x"))


def test_bytes_for_an_input_that_takes_no_images_are_values(tmp_path: Path) -> None:
    path = saved(tmp_path, np.arange(80, dtype=np.uint8).reshape(4, 20), y=LABELS)
    form = input_form(None, spec(None, 20), path)
    assert isinstance(form, AsIs)
    assert next(open_images(path, KEPT, None, form).batches(1))[0].tolist() == [list(range(20))]


@pytest.mark.parametrize("large", [False, True])
def test_rows_that_are_not_finite_in_the_models_type_are_left_out(tmp_path: Path, large: bool) -> None:
    x = np.zeros((4, 2), np.float32)
    x = x.astype(np.float64)
    x[1, 0] = 1e300 if large else np.nan
    path = saved(tmp_path, x, y=LABELS)
    images = open_images(path, KEPT, None, input_form(None, spec(None, 2), path))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.left_out == (
        f"1 row with values that are not finite (row 1 of x of {path})",
        "1 images of no wanted class",
    )


def test_an_archive_of_x_alone_has_no_labels(tmp_path: Path) -> None:
    path = saved(tmp_path, np.ones((4, 2), np.float32))
    images = open_images(path, KEPT, None, input_form(None, spec(None, 2), path))
    assert images.labels is None
    assert len(images) == 4
    assert "have no labels" in images.told()[0]


@given(
    x=arrays.arrays(
        st.sampled_from([np.float16, np.float64, np.int64, np.bool_]), arrays.array_shapes(min_dims=1, max_dims=4)
    ),
    opened=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_a_form_that_is_found_gives_the_shape_of_the_rows(x, opened) -> None:  # type: ignore[no-untyped-def]
    given_shape = (None, *(None if free else side for side, free in zip(x.shape[1:], opened, strict=False)))
    try:
        form = as_is(spec(*given_shape), x.shape, x.dtype, "x")
    except CrispError as error:
        assert "leaves axes open" in str(error)
        return
    assert spec(*given_shape).fixed(len(x), form.size) == x.shape
    with np.errstate(over="ignore"):
        assert form.normalise(x).dtype == np.float32


def test_pixels_for_an_input_of_other_whole_numbers_are_refused_with_its_type(tmp_path: Path) -> None:
    pixels = saved(tmp_path, np.zeros((4, 3, 8, 8), np.uint8), y=LABELS)
    with pytest.raises(CrispError, match=r"\(\?x3x8x8\) takes no images, 1 or 3 channels .*, but int32\. Leave"):
        input_form("unit", spec(None, 3, 8, 8, dtype="int32"), pixels)
