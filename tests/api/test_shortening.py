"""`blocks`: what it finds on images, the model that it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from crisp_onnx import Recipe, blocks, check, inspect
from crisp_onnx.api import shortening
from crisp_onnx.cli import cli
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model


@pytest.fixture
def place(tmp_path: Path, model_of: Callable[..., Model]) -> Path:
    """A network of three blocks, of which the second adds next to nothing, and images."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 16, 1, 1)) / 4 for name in "abc"}
    weights["b"] *= 1e-3
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,4] y)"
        " <float[16,3,1,1] s, float[16,16,1,1] a, float[16,16,1,1] b, float[16,16,1,1] c, float[16,4] d>"
        "{ h = Conv(x, s) p = Conv(h, a) pr = Relu(p) [one] i = Add(h, pr) q = Conv(i, b) [two] j = Add(q, i)"
        " r = Conv(j, c) rr = Relu(r) [three] k = Add(j, rr) g = GlobalAveragePool(k) f = Flatten(g)"
        " y = MatMul(f, d) }",
        **weights,
    )
    onnx.save(model.proto, tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=rng.integers(0, 256, (24, 4, 4, 3), np.uint8), y=np.arange(24) % 4,
             classes=np.array(list("wxyz")))  # fmt: skip
    (tmp_path / "labels.txt").write_text("w\nx\ny\nz\n")
    (tmp_path / "cls.txt").write_text("w\ny\n")
    return tmp_path


def metadata_blocks(path: Path) -> dict[str, object]:
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return dict(json.loads(found["pkg.crisp_onnx.blocks"]))


def recipe(place: Path) -> Recipe:
    return Recipe(model=place / "net.onnx", classes=("w", "y"), labels=place / "labels.txt", data=place / "d.npz",
                  preprocess="unit", pattern="2:4", block=4, vector_rows=4)  # fmt: skip


def test_the_block_that_adds_least_is_found_and_dropped(place: Path, answers: Callable[..., list[np.ndarray]]) -> None:
    output = place / "short.onnx"
    found = blocks(recipe(place), drop=1, output=output)
    assert [block.name for block in found.blocks] == ["one", "two", "three"]
    assert [block.dropped for block in found.blocks] == [False, True, False]
    one, two, three = found.blocks
    assert two.cka > 0.999 > max(one.cka, three.cka)
    assert two.moved < 0.05 < min(one.moved, three.moved)
    assert found.moved == pytest.approx(two.moved)
    assert two.macs == 16 * 16 * 16
    image = np.random.default_rng(1).random((2, 3, 4, 4), np.float32)
    whole, short = (answers(path, image)[0] for path in (place / "net.onnx", output))
    assert np.allclose(whole, short, atol=0.05)
    assert not np.array_equal(whole, short)
    assert sum(node.op_type == "Conv" for node in onnx.load(output).graph.node) == 3
    assert metadata_blocks(output) == {
        "two": {"nodes": list(two.nodes), "macs": two.macs, "cka": round(two.cka, 6), "moved": round(two.moved, 6)}
    }
    assert "Residual blocks were left out" in inspect(output).notes[0]
    assert f": two {100 * two.moved:.3g} %." in inspect(output).notes[0]


def test_a_file_tells_of_every_block_that_went_however_often(place: Path) -> None:
    once, twice = place / "once.onnx", place / "twice.onnx"
    blocks(recipe(place), drop=1, output=once)
    blocks(recipe(place).model_copy(update={"model": once}), drop=1, output=twice)
    assert set(metadata_blocks(once)) < set(metadata_blocks(twice))
    assert len(metadata_blocks(twice)) == 2


@pytest.mark.parametrize("batch", ["N", "4"])
def test_macs_are_those_of_one_image_whatever_batch_the_file_fixes(
    tmp_path: Path, model_of: Callable[..., Model], batch: str
) -> None:
    model = model_of(
        f"(float[{batch},3,4,4] x) => (float[{batch},4] y) <float[16,3,1,1] s, float[16,16,1,1] a, float[16,4] d>"
        "{ h = Conv(x, s) p = Conv(h, a) i = Add(h, p) r = Relu(i) g = GlobalAveragePool(r) f = Flatten(g)"
        " y = MatMul(f, d) }"
    )
    onnx.save(model.proto, tmp_path / "net.onnx")
    (pair,) = (group for group in check(tmp_path / "net.onnx").groups if group.width == 16)
    assert pair.macs_a_channel == 16 * 3 + 16 * (16 + 15) + 4
    np.savez(tmp_path / "d.npz", x=np.zeros((8, 4, 4, 3), np.uint8), y=np.arange(8) % 4, classes=np.array(list("wxyz")))
    given = {"classes": (0, 1), "data": tmp_path / "d.npz", "preprocess": "unit"}
    found = blocks(Recipe(model=tmp_path / "net.onnx", **given))  # type: ignore[arg-type]
    assert (found.blocks[0].macs, found.macs) == (16 * 256, 16 * (48 + 256) + 64)


def test_without_dropping_nothing_is_written(place: Path) -> None:
    before = sorted(place.iterdir())
    assert not any(block.dropped for block in blocks(recipe(place)).blocks)
    assert sorted(place.iterdir()) == before


def test_of_many_images_it_says_how_many_were_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (every,) = blocks(recipe(place)).notes
    count = int(re.search(r"Judged on all (\d+) images", every)[1])  # type: ignore[index]
    monkeypatch.setattr(shortening, "MOST_IMAGES", 3)
    assert f"Judged on 3 of the {count} images" in blocks(recipe(place)).notes[0]


def test_what_cannot_be_done_is_refused(place: Path) -> None:
    with pytest.raises(CrispError, match="has 3 residual blocks, so 4 cannot go"):
        blocks(recipe(place), drop=4, output=place / "short.onnx")
    with pytest.raises(CrispError, match="go together"):
        blocks(recipe(place), drop=1)
    with pytest.raises(CrispError, match="--data"):
        blocks(recipe(place).model_copy(update={"data": None}))
    with pytest.raises(CrispError, match="Choose another name"):
        blocks(recipe(place), drop=1, output=place / "net.onnx")


def test_the_command_prints_a_row_a_block(place: Path) -> None:
    options = ["--classes", "cls.txt", "--labels", "labels.txt", "--data", "d.npz", "--preprocess", "unit"]
    given = [str(place / text) if "." in text else text for text in options]
    done = CliRunner().invoke(
        cli, ["blocks", str(place / "net.onnx"), *given, "--drop-blocks", "1", "-o", str(place / "s.onnx")]
    )
    assert done.exit_code == 0, done.output
    assert "3 residual blocks" in done.output
    assert "dropped" in done.output
    assert "Written to" in done.output
