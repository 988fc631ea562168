"""Rows in a file: the same values as in memory, however they are asked for, and a sentence once the file is changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crisp_onnx.data import rows
from crisp_onnx.data.arrays import spooled
from crisp_onnx.data.npz import read_npz
from crisp_onnx.data.values import AsIs
from crisp_onnx.errors import CrispError

ANY = arrays.arrays(
    st.sampled_from(["u1", "<f4", ">i2", "f8"]), arrays.array_shapes(min_dims=1, max_dims=4, max_side=6),
    elements=st.integers(0, 100),
)  # fmt: skip
LABELS = np.array([0, 1, 0, 1])


@given(ANY, st.data())
def test_rows_are_those_of_the_array_one_by_one_in_a_range_or_in_any_order(
    array: np.ndarray, data: st.DataObject
) -> None:
    found = spooled([array], array.dtype, array.shape[1:])
    asked = np.array(data.draw(st.lists(st.integers(0, len(array) - 1), max_size=12)), np.int64)
    np.testing.assert_array_equal(found[asked], array[asked])
    first, end = data.draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    np.testing.assert_array_equal(found[first:end], array[first:end])
    row = data.draw(st.integers(0, len(array) - 1))
    np.testing.assert_array_equal(found[row], array[row])
    assert found[:].dtype == array.dtype


@given(ANY.filter(lambda array: array.ndim > 1), st.integers(1, 400))
def test_columns_first_become_rows_first_in_blocks_of_any_size(array: np.ndarray, block: int) -> None:
    columns = spooled([array.T], array.dtype, (1,))
    held = rows.FileRows(columns.file, 0, array.dtype, array.shape, "x", columns.state)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "BLOCK_BYTES", block)
        blocks = list(rows.in_rows(held))
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def cut(path: Path) -> None:
    os.truncate(path, 100)


def rewritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-1] + b"?")
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize("change", [cut, rewritten])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_a_file_that_is_changed_while_it_is_read_is_one_sentence(tmp_path: Path, change, dtype: str) -> None:  # type: ignore[no-untyped-def]
    x = np.zeros((4, 40, 40, 3), dtype)
    np.savez(tmp_path / "d.npz", x=x, y=LABELS)
    form = None if dtype == "u1" else AsIs((40, 40, 3), np.dtype("f4"), (40, 40))
    found = read_npz(tmp_path / "d.npz", form).store
    change(tmp_path / "d.npz")
    with pytest.raises(CrispError, match=r"Array 'x' of .*d\.npz was changed while it was in use. Start again"):
        list(found.content(np.arange(4)))


def test_a_file_whose_name_was_given_to_another_is_still_the_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((4, 4, 4), 7, np.uint8), y=LABELS)
    found = read_npz(tmp_path / "d.npz").store
    np.savez(tmp_path / "e.npz", x=np.full((4, 4, 4), 9, np.uint8), y=LABELS)
    (tmp_path / "e.npz").replace(tmp_path / "d.npz")
    assert set(b"".join(found.content(np.arange(4)))) == {7}
