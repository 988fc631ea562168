"""Commands beside `compress` write over nothing that they read, and know it before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from crisp_onnx import estimate, lower, make_bank
from crisp_onnx.api.densities import measured_densities
from crisp_onnx.errors import CrispError
from crisp_onnx.model import load

TARGET = "dstc_edge_int8"


@pytest.fixture
def place(model_of: Any, tmp_path: Path) -> Path:
    """A folder with a model, its weights in a file of their own, images in two forms and a preprocessing."""
    model = model_of(
        "(float[N,3,8,8] x) => (float[N,6] y) <float[6,3,1,1] w> "
        "{ c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p) }"
    )
    onnx.save(model.proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    pixels[:3] = 0
    np.savez(tmp_path / "d.npz", x=pixels, y=np.arange(6) % 5 + 1)
    np.savez(tmp_path / "bare.npz", x=pixels)
    np.savez(tmp_path / "maps.npz", x=pixels, y=np.zeros((6, 8, 8), np.uint8))
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels[5]).save(tmp_path / "photos" / "a.png")
    (tmp_path / "p.yaml").write_text("mean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\n")
    (tmp_path / "link.svg").symlink_to("d.npz")
    return tmp_path


@pytest.mark.parametrize(
    ("page", "plot", "data"),
    [
        ("d.npz", None, "d.npz"), (None, "link.svg", "d.npz"), ("p.yaml", None, "d.npz"), ("m.data", None, "d.npz"),
        (None, "photos/a.png", "photos"), ("photos/a.png", None, "photos"),
    ],
)  # fmt: skip
def test_an_estimate_replaces_nothing_that_it_reads(place: Path, page: str | None, plot: str | None, data: str) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(CrispError, match=r"would overwrite|must end in"):
        estimate(
            place / "m.onnx", TARGET, data=place / data, preprocess=str(place / "p.yaml"),
            page=None if page is None else place / page, plots=() if plot is None else (place / plot,),
        )  # fmt: skip
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_two_results_are_not_written_into_one_file(place: Path) -> None:
    with pytest.raises(CrispError, match=r"Two results would stand in .*x\.svg"):
        estimate(place / "m.onnx", TARGET, page=place / "x.svg", plots=(place / "x.svg",))


@pytest.mark.parametrize("output", ["d.npz", "m.data", "p.yaml"])
def test_lowering_replaces_nothing_that_it_reads(place: Path, output: str) -> None:
    with pytest.raises(CrispError, match="would overwrite"):
        lower(place / "m.onnx", TARGET, output=place / output, data=place / "d.npz", preprocess=str(place / "p.yaml"))


@pytest.mark.parametrize("output", ["d.npz", "p.yaml", "names.txt"])
def test_a_bank_replaces_nothing_that_it_is_made_of(place: Path, output: str) -> None:
    (place / "names.txt").write_text("\n".join("abcdef"))
    with pytest.raises(CrispError, match="would overwrite"):
        make_bank(
            place / "m.onnx", data=place / "d.npz", output=place / output, labels=place / "names.txt",
            preprocess=str(place / "p.yaml"),
        )  # fmt: skip


def test_densities_are_those_of_all_images_whatever_their_labels(place: Path) -> None:
    model = load(place / "m.onnx")
    found = [measured_densities(model, place / name, "raw") for name in ("bare.npz", "d.npz", "maps.npz")]
    pixels = np.load(place / "d.npz")["x"]
    assert found[0] == found[1] == found[2]
    assert list(found[0].values()) == [pytest.approx(np.count_nonzero(pixels) / pixels.size)]


def test_densities_of_a_segmentation_folder_are_those_of_its_images_alone(place: Path) -> None:
    (place / "pairs" / "images").mkdir(parents=True)
    (place / "pairs" / "labels").mkdir()
    (place / "photos" / "a.png").rename(place / "pairs" / "images" / "a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place / "pairs" / "labels" / "a.png")
    pixels = np.load(place / "d.npz")["x"][5]
    found = measured_densities(load(place / "m.onnx"), place / "pairs", "raw")
    assert list(found.values()) == [pytest.approx(np.count_nonzero(pixels) / pixels.size)]
