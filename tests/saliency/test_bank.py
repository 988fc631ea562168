"""A bank's sums are the direct ones bit for bit, add up over shards, and are refused where they do not fit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import coloured_images, residual_classifier

from crisp_onnx.bridge import to_torch
from crisp_onnx.data import Classes, Images, open_images, parse_preprocess
from crisp_onnx.errors import CrispError
from crisp_onnx.model import Model, WeightLayer, load, weight_layers
from crisp_onnx.saliency import collect, criterion_named, statistic_of
from crisp_onnx.saliency.bank import Bank, Origin, Subject, add_banks, differences, open_bank, write_bank
from crisp_onnx.saliency.collection import by_class, shape_of, sums_of
from crisp_onnx.task import Classification

ALL = tuple(range(6))
TASK = Classification(ALL, ALL, "logits", "logits")
SUBJECT = Subject("0" * 64, "logits", "gradient_abs", "signed", 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(residual_classifier(tmp_path_factory.mktemp("model") / "small.onnx"))


@pytest.fixture(scope="module")
def layers(model: Model) -> list[WeightLayer]:
    return [layer for layer in weight_layers(model) if layer.name in ("conv1", "conv2", "fc")]


def pictures(model: Model, classes: tuple[int, ...] = ALL, seed: int = 0, per_class: int = 5) -> Images:
    named = Classes(classes, tuple(map(str, classes)))
    return open_images(coloured_images(per_class, seed), named, None, parse_preprocess("signed", model.input))


def banked(model: Model, layers: list[WeightLayer], path: Path, *, criterion: str = "crisp", seed: int = 0) -> Bank:
    chosen, module = criterion_named(criterion), to_torch(model)
    parts = {int(part.labels[0]): part for part in by_class(pictures(model, seed=seed))}  # type: ignore[index]
    sums = ((i, sums_of(chosen, module, model, layers, part, TASK, batch_size=4).totals) for i, part in parts.items())
    counts = {index: len(part) for index, part in parts.items()}
    shapes = {layer.weight: shape_of(chosen, layer) for layer in layers}
    return write_bank(path, replace(SUBJECT, statistic=chosen.needs), counts, shapes, sums)


@pytest.mark.parametrize("criterion", ["crisp", "fisher", "wanda"])
@pytest.mark.parametrize("classes", [(4, 1, 2), (3,), ALL])
def test_any_list_of_classes_gets_bit_for_bit_what_its_images_give_directly(
    model: Model, layers: list[WeightLayer], tmp_path: Path, criterion: str, classes: tuple[int, ...]
) -> None:
    chosen = criterion_named(criterion)
    bank = banked(model, layers, tmp_path / "bank.safetensors", criterion=criterion)
    direct = collect(
        chosen, to_torch(model), model, layers, images=pictures(model, classes),
        task=replace(TASK, wanted=classes), batch_size=4,
    )  # fmt: skip
    taken = statistic_of(chosen, bank.of_classes(classes, [layer.weight for layer in layers]))
    assert direct.keys() == taken.keys()
    assert all(torch.equal(direct[name], taken[name]) for name in direct)


def test_a_bank_is_a_plain_safetensors_file(model: Model, layers: list[WeightLayer], tmp_path: Path) -> None:
    bank = banked(model, layers, tmp_path / "bank.safetensors")
    tensors = load_file(bank.path)
    assert set(tensors) == {f"{index}/{layer.weight}" for index in ALL for layer in layers}
    assert bank.bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert open_bank(bank.path) == bank


def test_banks_of_shards_add_up(model: Model, layers: list[WeightLayer], tmp_path: Path) -> None:
    one, other = (banked(model, layers, tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    both = add_banks([one, other], tmp_path / "both.safetensors")
    assert both.images == dict.fromkeys(ALL, 10)
    for index in ALL:
        parts = [bank.of_classes([index], ["conv1.weight"]).totals["conv1.weight"] for bank in (one, other, both)]
        assert torch.equal(parts[0] + parts[1], parts[2])


def test_banks_of_other_subjects_do_not_add_up(model: Model, layers: list[WeightLayer], tmp_path: Path) -> None:
    one = banked(model, layers, tmp_path / "one.safetensors")
    fisher = banked(model, layers, tmp_path / "fisher.safetensors", criterion="fisher")
    with pytest.raises(CrispError, match="different statistics"):
        add_banks([one, fisher], tmp_path / "both.safetensors")
    fewer = banked(model, layers[:2], tmp_path / "fewer.safetensors")
    with pytest.raises(CrispError, match="different weights"):
        add_banks([one, fewer], tmp_path / "both.safetensors")
    assert not (tmp_path / "both.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "said"),
    [("sha256", "different models"), ("output", "different outputs"), ("preprocess", "prepared differently")],
)
def test_what_sets_subjects_apart_is_said(field: str, said: str) -> None:
    assert said in differences(SUBJECT, replace(SUBJECT, **{field: "1" * 64}))[0]
    assert differences(SUBJECT, SUBJECT) == ()


def test_a_class_that_a_bank_lacks_is_named(model: Model, layers: list[WeightLayer], tmp_path: Path) -> None:
    bank = banked(model, layers, tmp_path / "bank.safetensors")
    assert bank.lacks((1, 7)) == (7,)
    with pytest.raises(CrispError, match="no sums of output 7"):
        bank.of_classes((1, 7), ["conv1.weight"])


def test_files_that_are_no_banks_are_refused(model: Model, layers: list[WeightLayer], tmp_path: Path) -> None:
    with pytest.raises(CrispError, match="There is no bank"):
        open_bank(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing of the kind")
    with pytest.raises(CrispError, match="cannot be read as a bank"):
        open_bank(tmp_path / "text.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CrispError, match="is no bank"):
        open_bank(tmp_path / "other.safetensors")
    whole = banked(model, layers, tmp_path / "bank.safetensors").path.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CrispError, match="cannot be read as a bank"):
        open_bank(tmp_path / "short.safetensors")


def test_a_bank_whose_classes_differ_is_refused(tmp_path: Path) -> None:
    sums = {"0/w": torch.ones(2), "1/w": torch.ones(3)}
    about = '{"sha256": "", "output": "", "statistic": "", "preprocess": "", "seed": 0, "images": {"0": 1, "1": 1}}'
    save_file(sums, tmp_path / "odd.safetensors", {"format": "crisp-bank/1", "about": about})
    with pytest.raises(CrispError, match="damaged"):
        open_bank(tmp_path / "odd.safetensors")


UNSOUND = {"negative": (-1.0, "are negative"), "nan": (float("nan"), "are not finite"), "huge": (3e38, "are too large")}


@pytest.mark.parametrize("value", UNSOUND)
def test_what_cannot_be_sums_is_refused_with_the_name_of_the_bank(tmp_path: Path, value: str) -> None:
    number, said = UNSOUND[value]
    sound = write_bank(tmp_path / "sound.safetensors", SUBJECT, {0: 1}, {"w": (2,)}, [(0, {"w": torch.ones(2)})])
    damaged = tmp_path / "damaged.safetensors"
    raw = sound.path.read_bytes()
    damaged.write_bytes(raw[:-8] + torch.tensor([1.0, number]).numpy().tobytes())
    with pytest.raises(CrispError, match=rf"damaged\.safetensors is damaged: .* output 0 for weight 'w' {said}"):
        open_bank(damaged).require_sound([0], ["w"])
    with pytest.raises(CrispError, match=r"damaged\.safetensors is damaged"):
        add_banks([sound, open_bank(damaged)], tmp_path / "both.safetensors")
    with pytest.raises(CrispError, match=f"{said}.*overflows on these images"):
        write_bank(tmp_path / "n.safetensors", SUBJECT, {0: 1}, {"w": (2,)}, [(0, {"w": torch.tensor([1.0, number])})])
    assert {path.name for path in tmp_path.iterdir()} == {"sound.safetensors", "damaged.safetensors"}


@pytest.mark.parametrize("change", ["cut", "written again", "replaced"])
def test_a_bank_that_is_changed_after_it_was_opened_is_refused(tmp_path: Path, change: str) -> None:
    def made(name: str, value: float) -> Bank:
        sums = [(0, {"w": torch.full((2000,), value)})]
        return write_bank(tmp_path / name, SUBJECT, {0: 1}, {"w": (2000,)}, sums)

    bank, other = made("a", 1.0), made("b", 2.0)
    assert bank.of_classes([0], ["w"]).totals["w"].sum() == 2000
    if change == "cut":
        os.truncate(bank.path, 600)
    elif change == "written again":
        bank.path.write_bytes(other.path.read_bytes())
    else:
        other.path.replace(bank.path)
    with pytest.raises(CrispError, match="a was changed while it was in use"):
        bank.of_classes([0], ["w"])
    bank.path.unlink()
    with pytest.raises(CrispError, match="a cannot be read any more: No such file"):
        bank.of_classes([0], ["w"])


def test_banks_tell_shared_images_by_their_digests_however_often_they_were_merged(tmp_path: Path) -> None:
    def made(name: str, digests: range, left_out: tuple[int, ...] = ()) -> Bank:
        seen = {0: tuple(f"{one:016x}" for one in digests)}
        origin = Origin({0: ("cat",)}, seen, left_out)
        sums = [(0, {"w": torch.ones(2)})]
        return write_bank(tmp_path / name, SUBJECT, {0: len(digests)}, {"w": (2,)}, sums, origin)

    one, two, three = made("a", range(4), (1, 2)), made("b", range(4, 9), (1,)), made("c", range(8, 12))
    both = add_banks([one, two], tmp_path / "both")
    assert both.origin == Origin({0: ("cat",)}, {0: tuple(f"{n:016x}" for n in range(9))}, (1,))
    with pytest.raises(CrispError, match=r"both and .*c were made of the same images, for example of output 0"):
        add_banks([both, three], tmp_path / "all")
    assert add_banks([one, three], tmp_path / "all").images == {0: 8}
