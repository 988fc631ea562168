"""`compress --method channels`: a smaller ordinary network, within its budget, that says what was taken from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import coloured_images, residual_classifier

from crisp_onnx import Recipe, compress
from crisp_onnx.api import compression, inspect, verification, verify
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, save
from crisp_onnx.report.rows import before_after_rows, note_sentences
from crisp_onnx.report.schema import Report
from crisp_onnx.runtime.latency import measure_files

IMAGES = coloured_images(per_class=12)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Latency is measured, and not for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compression, verification):
            patch.setattr(module, "measure_files", partial(measure_files, budget_s=0.05))
        yield


def run(folder: Path, *, batch_norm: bool = True, **options: object) -> tuple[Report, Path]:
    model = residual_classifier(folder / "small.onnx", batch_norm=batch_norm)
    recipe = Recipe(
        model=model, classes=(0, 1, 2), preprocess="unit", output=folder / "out", **{"method": "channels", **options}
    )  # type: ignore[arg-type]
    return compress(recipe, data=IMAGES, eval_data=coloured_images(per_class=6, seed=1)), folder / "out"


def metadata(folder: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}


@pytest.fixture(scope="module")
def one_shot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return run(tmp_path_factory.mktemp("narrow"), epochs=0)


def test_the_file_is_an_ordinary_network_of_the_reported_widths(one_shot: tuple[Report, Path]) -> None:
    report, folder = one_shot
    proto = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    stored = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for layer in report.layers:
        kept = layer.shape_kept or layer.shape
        assert np.prod(stored[layer.weight]) == np.prod(kept)
        assert layer.density == pytest.approx(np.prod(kept) / np.prod(layer.shape))
        assert layer.macs_executed == layer.macs * np.prod(kept) / np.prod(layer.shape)
    assert any(layer.shape_kept for layer in report.layers)
    told = json.loads(metadata(folder)["pkg.crisp_onnx.widths"])
    assert told == {
        node.name: [list(source.dims), list(stored[node.input[1]])]
        for node in proto.graph.node
        for source in onnx.load(folder.parent / "small.onnx").graph.initializer
        if node.op_type in ("Conv", "Gemm") and source.name == node.input[1]
    }
    assert "pkg.crisp_onnx.collapsed" not in metadata(folder)


def test_the_budget_is_met_and_inputs_and_outputs_keep_their_shapes(one_shot: tuple[Report, Path]) -> None:
    report, folder = one_shot
    (budget,) = report.budgets
    assert (budget.name, budget.asked, budget.met) == ("macs", 0.5, True)
    assert budget.reached == report.macs.kept_ratio <= 0.5
    session = ort.InferenceSession(str(folder / "model.onnx"))
    assert [tuple(x.shape[1:]) for x in (*session.get_inputs(), *session.get_outputs())] == [(3, 12, 12), (6,)]
    assert report.channels is not None
    assert report.channels.macs_left == pytest.approx(report.macs.kept_ratio)
    assert report.channels.worst_relative <= 1e-5
    assert [(g.channels, g.kept % 8) for g in report.channels.groups if not g.reason] == [(32, 0), (32, 0)]
    assert report.channels.groups[-1].reason == "graph output 'logits'"


def test_other_commands_take_the_result(one_shot: tuple[Report, Path]) -> None:
    report, folder = one_shot
    found = inspect(folder / "model.onnx")
    assert (found.layers, found.zeros) == ((), ())
    assert any("Made for 3 classes" in note for note in found.notes)
    assert any("Channels were removed from 4 layers: stem 32x3x3x3 > " in note for note in found.notes)
    assert verify(folder.parent / "small.onnx", folder / "model.onnx").bytes_compressed == report.file.bytes
    assert json.loads((folder / "report.json").read_text())["channels"]["epochs"] == 0
    assert "method: channels" in (folder / "recipe.yaml").read_text()
    assert report.sparsity.all_weights == 0
    assert not [cells for cells in before_after_rows(report).cells if cells[0].startswith("zeros")]
    small = folder.parent / "small.onnx"
    swapped = "the two look swapped"
    assert any(swapped in note for note in verify(folder / "model.onnx", small).notes)
    assert not any(swapped in note for note in verify(small, folder / "model.onnx").notes)


def test_a_network_without_batch_norm_and_a_trained_one(tmp_path: Path) -> None:
    report, _ = run(tmp_path, batch_norm=False, epochs=2, macs=0.4, round_channels=4, widths="gates")
    assert report.macs.kept_ratio <= 0.4
    assert report.channels is not None
    assert report.channels.epochs == 2


def test_blocks_follow_on_channels_under_one_budget(tmp_path: Path) -> None:
    report, folder = run(tmp_path, method="channels+hybrid", epochs=2, macs=0.2, target="portable")
    (budget,) = report.budgets
    assert (budget.name, budget.asked, budget.met) == ("macs", 0.2, True)
    assert report.channels is not None
    assert 0.2 < report.channels.macs_left < 0.5
    sparse = [layer for layer in report.layers if layer.decision == "sparse"]
    assert [layer.name for layer in sparse] == ["conv1", "conv2"]
    assert all(layer.shape_kept for layer in sparse)
    assert len(inspect(folder / "model.onnx").layers) == 2


def test_a_budget_that_the_pattern_alone_meets_leaves_all_channels_and_the_report_says_why(tmp_path: Path) -> None:
    report, _ = run(tmp_path, method="channels+hybrid", epochs=0, macs=0.53, target="portable", reconstruct="none")
    assert report.channels is not None
    assert all(group.kept == group.channels for group in report.channels.groups)
    (note,) = (note for note in report.notes if note.startswith("No channel was removed"))
    assert "2:4 alone leaves 0.5 of the MACs. Ask for less than --macs 0.5" in note


def test_a_budget_that_zeros_alone_would_not_need_is_met(tmp_path: Path) -> None:
    """Half of 0.6 is all that 2:4 leaves, and widths leave less than they are asked for."""
    report, _ = run(tmp_path, method="channels+hybrid", epochs=0, macs=0.3, target="portable", reconstruct="none")
    (budget,) = report.budgets
    assert (budget.asked, budget.met) == (0.3, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 0.8}, "--sparsity is no budget of --method channels"),
        ({"macs": 0.01}, r"--macs 0\.01 cannot be met: .* still has 0\.0112 of its MACs. Ask for at least 0\.012"),
        ({"macs": 0.01, "method": "channels+hybrid"}, r"--macs 0\.01 cannot be met with --method channels\+hybrid: "),
        ({"bank": Path("any.safetensors")}, "--method channels asks .* Leave out --bank"),
        ({"bank": Path("any.safetensors"), "method": "channels+hybrid"}, "channels.hybrid asks .* Leave out --bank"),
        ({"saliency": "wanda"}, "crisp or magnitude or random, not wanda"),
        ({"widths": "gates", "epochs": 1}, "needs 2 epochs"),
        ({"widths": "gates", "method": "hybrid"}, "removes none"),
        ({"keep_dense": ("conv",)}, "No channel of small.onnx can be removed: .*as asked"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_long(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(CrispError, match=words):
        run(tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_the_narrower_network_is_written_in_bytes(tmp_path: Path) -> None:
    report, folder = run(tmp_path, precision="int8", epochs=0)
    assert report.quantisation is not None
    assert report.quantisation.layers == 4
    assert report.file.bytes < 0.3 * (tmp_path / "small.onnx").stat().st_size
    operators = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert "QuantizeLinear" in operators or "QLinearConv" in operators


@pytest.mark.parametrize("widths", ["saliency", "gates"])
def test_a_block_whose_channels_all_go_collapses_and_the_report_says_so(tmp_path: Path, widths: str) -> None:
    """The stem and the classifier alone are 5 % of the MACs; the two layers of the block are the rest."""
    report, folder = run(tmp_path, macs=0.05, epochs=2, widths=widths, round_channels=16)
    left = {node.op_type: node.name for node in onnx.load(folder / "model.onnx").graph.node}
    assert left["Conv"] == "stem"
    assert report.channels is not None
    (chain,) = report.channels.collapsed
    assert chain.layer == "conv2"
    assert [layer.name for layer in report.layers if layer.decision == "collapsed"] == ["conv1", "conv2"]
    assert report.macs.kept_ratio <= 0.05
    assert any("chains collapsed: that up to conv2 became" in note for note in note_sentences(report))
    assert any("conv1 32x32x3x3 > none" in note for note in inspect(folder / "model.onnx").notes)
    told = json.loads(metadata(folder)["pkg.crisp_onnx.collapsed"])
    assert told == {"conv2": f"it has no channels left: up to this layer its chain became {chain.into}"}
    assert len(report.notes) == len(set(report.notes))


BOTTLENECK = """
(float[N,3,12,12] image) => (float[N,6] logits)
<float[32,3,3,3] stem_w, float[16,32,1,1] first_w, float[16,16,3,3] second_w, float[32,16,1,1] third_w,
 float[32,6] head_w>
{
  s = Conv<pads = [1,1,1,1]>(image, stem_w)  r = Relu(s)
  a = Conv(r, first_w)  b = Relu(a)  c = Conv<pads = [1,1,1,1]>(b, second_w)  d = Relu(c)  e = Conv(d, third_w)
  t = Add(r, e)  p = GlobalAveragePool(t)  f = Flatten(p)  logits = MatMul(f, head_w)
}
"""


def test_a_block_goes_with_one_of_its_groups_and_the_budget_and_the_report_know(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    """The block is 79 % of the MACs: one of its groups ends it, and the other counts nothing then."""
    save(model_of(BOTTLENECK), tmp_path / "small.onnx")
    recipe = Recipe(
        model=tmp_path / "small.onnx", classes=(0, 1, 2), preprocess="unit", output=tmp_path / "out", epochs=0,
        method="channels", macs=0.22, round_channels=8, keep_dense=("Conv_0",),
    )  # fmt: skip
    report = compress(recipe, data=IMAGES)
    assert report.channels is not None
    collapsed = {layer.name for layer in report.layers if layer.decision == "collapsed"}
    assert len(collapsed) == 3
    gone = [group for group in report.channels.groups if collapsed.issuperset(group.written_by)]
    assert [(group.channels, group.kept) for group in gone] == [(16, 0), (16, 0)]
    assert {group.reason for group in gone} == {"the layers that write them are gone: their block collapsed"}
    assert report.channels.macs_left == report.macs.kept_ratio


def test_a_network_with_norms_over_channels_is_trained_without_some_of_them(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    model = model_of(
        "(float[N,3,4,4] x) => (float[N,3] y) <float[12,3,1,1] stem, float[12] s, float[12] b, float[12,16] up,"
        " float[16,12] down, float[3,12] head> { c = Conv(x, stem) h = Transpose<perm=[0,2,3,1]>(c)"
        " n = LayerNormalization<axis=-1>(h, s, b) u = MatMul(n, up) r = Relu(u) d = MatMul(r, down) e = Add(h, d)"
        " m = ReduceMean<axes=[1,2], keepdims=0>(e) y = Gemm<transB=1>(m, head) }"
    )
    path = tmp_path / "norms.onnx"
    save(model, path)
    recipe = Recipe(
        model=path, classes=(0, 1, 2), preprocess="mean=0/0/0,std=1/1/1,size=4", method="channels", macs=0.4,
        round_channels=1, epochs=1, output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=[pair for pair in IMAGES[::3] if pair[1] in recipe.classes])
    assert report.channels is not None
    assert report.channels.groups[0].kept < 12
    assert 0.3 < report.channels.macs_left <= 0.4


def test_layers_that_lead_to_other_outputs_alone_are_left_as_they_are(
    tmp_path: Path, model_of: Callable[..., Model]
) -> None:
    source = tmp_path / "several.onnx"
    save(
        model_of(
            "(float[N,3,8,8] x) => (float[N,3] y, float[N,4,8,8] k) <float[16,3,3,3] stem, float[16,16,3,3] w,"
            " float[4,16,1,1] side, float[3,16] head> { c = Conv<pads=[1,1,1,1]>(x, stem) r = Relu(c)"
            " k = Conv(r, side) d = Conv<pads=[1,1,1,1]>(r, w) q = Relu(d) p = GlobalAveragePool(q) f = Flatten(p)"
            " y = Gemm<transB=1>(f, head) }"
        ),
        source,
    )
    recipe = Recipe(
        model=source, classes=(0, 1, 2), preprocess="unit,size=8", method="channels", macs=0.5, round_channels=4,
        epochs=0, output_name="y", output=tmp_path / "out",
    )  # fmt: skip
    report = compress(recipe, data=[(image[:8, :8], label) for image, label in IMAGES if label in recipe.classes])
    assert report.macs.kept_ratio <= 0.5
    assert [node.name for node in ort.InferenceSession(str(tmp_path / "out" / "model.onnx")).get_outputs()] == [
        "y",
        "k",
    ]
    assert any("nothing looks after what they answer: 'k'" in note for note in report.notes)
