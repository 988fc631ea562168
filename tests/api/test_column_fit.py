"""What the channels that went had given is fitted into the others, in the network that is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from crisp_onnx import Recipe, compress
from crisp_onnx.model import Model, save


def chain_of_blocks(count: int, middle: str, weights: str) -> str:
    """ONNX text: a stem, residual blocks `middle` (`{i}` its number, `{x}` its input, `{y}` its output), a head."""
    parts, declared, last = [], ["float[16,3,3,3] stem"], "x0"
    for number in range(count):
        declared.append(weights.format(i=number))
        parts.append(middle.format(i=number, x=last, y=f"b{number}"))
        parts.append(f"s{number} = Add({last}, b{number}) x{number + 1} = Relu(s{number})")
        last = f"x{number + 1}"
    kept = dict.fromkeys(part.strip() for text in declared for part in text.split(";") if part.strip())
    return (
        f"(float[N,3,8,8] x) => (float[N,3] y) <{', '.join(kept)}, float[3,16] head> "
        "{ c = Conv<pads=[1,1,1,1]>(x, stem) x0 = Relu(c) " + " ".join(parts) + f" p = GlobalAveragePool({last})"
        " f = Flatten(p) y = Gemm<transB=1>(f, head) }"
    )


OWN = (
    "h{i} = Conv<pads=[1,1,1,1]>({x}, w{i}a, t{i}a) r{i} = Relu(h{i}) {y} = Conv<pads=[1,1,1,1]>(r{i}, w{i}b, t{i}b)",
    "float[16,16,3,3] w{i}a; float[16] t{i}a; float[16,16,3,3] w{i}b; float[16] t{i}b",
)
SHARED = (OWN[0].replace("{i}a", "a").replace("{i}b", "b"), OWN[1].replace("{i}", ""))
GROUPED = (
    "h{i} = Conv<pads=[1,1,1,1]>({x}, w{i}a, t{i}a) r{i} = Relu(h{i})"
    " g{i} = Conv<pads=[1,1,1,1], group=4>(r{i}, w{i}g, t{i}g) q{i} = Relu(g{i}) {y} = Conv(q{i}, w{i}b, t{i}b)",
    "float[16,16,3,3] w{i}a; float[16] t{i}a; float[16,4,3,3] w{i}g; float[16] t{i}g; float[16,16,1,1] w{i}b;"
    " float[16] t{i}b",
)


@pytest.mark.parametrize(
    ("block", "macs", "lanes"), [(OWN, 0.3, 16), (OWN, 0.15, 8), (SHARED, 0.5, 4), (GROUPED, 0.4, 4)]
)
def test_least_squares_fits_to_the_network_that_is_left_whatever_reads_what_went(
    tmp_path: Path, model_of: Callable[..., Model], block: tuple[str, str], macs: float, lanes: int
) -> None:
    """Blocks that collapse, weights that several nodes share, grouped layers: the answers come nearer, not farther."""
    source = tmp_path / "source.onnx"
    save(model_of(chain_of_blocks(3, *block)), source)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=pixels, y=np.arange(96) % 3)
    inputs = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    missed = {}
    for reconstruct in ("none", "least-squares"):
        recipe = Recipe(
            model=source, classes=(0, 1, 2), preprocess="unit", method="channels", macs=macs, round_channels=lanes,
            epochs=0, reconstruct=reconstruct, data=tmp_path / "data.npz", output=tmp_path / reconstruct,
        )  # fmt: skip
        compress(recipe)
        whole, left = (
            ort.InferenceSession(str(path)).run(None, {"x": inputs})[0]
            for path in (source, tmp_path / reconstruct / "model.onnx")
        )
        missed[reconstruct] = float(np.sqrt(np.mean((left - whole) ** 2)) / whole.std())
    assert missed["least-squares"] < 0.5 * missed["none"]
