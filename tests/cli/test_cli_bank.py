"""`saliency` and `compress --bank`: the same model as directly, and refusals before anything long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file
from small_models import coloured_images

from crisp_onnx.saliency.bank import open_bank


@pytest.fixture(scope="module")
def bank(workplace, run) -> Path:
    path = workplace.folder / "bank.safetensors"
    done = run("saliency", workplace.model, "--data", workplace.data, "--preprocess", "unit", "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # A tenth of a class of 12, one image, is held out as in compress.
    assert told["images"] == {str(index): 11 for index in range(6)}
    assert told["bytes"] == sum(tensor.nbytes for tensor in load_file(path).values())
    return path


def weights(folder: Path) -> dict[str, bytes]:
    proto = onnx.load(folder / "model.onnx")
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in proto.graph.initializer}


def test_a_bank_gives_the_model_that_a_direct_run_gives(workplace, run, compressed, bank):
    out = workplace.folder / "from-bank"
    done = run(*workplace.options, "--bank", bank, "-o", out)
    assert done.returncode == 0, done.stderr
    assert weights(out) == weights(compressed)
    assert "Saliency comes from bank.safetensors" in done.stdout
    recipe = (out / "recipe.yaml").read_text()
    assert "bank: ../bank.safetensors" in recipe


def test_a_bank_that_does_not_fit_is_refused_in_a_sentence(workplace, run, bank, tmp_path):
    def refused(*options: object) -> str:
        done = run(*workplace.options, "--bank", bank, *options, "-o", tmp_path / "out")
        assert done.returncode == 2
        assert not (tmp_path / "out").exists()
        return done.stderr

    assert "different statistics" in refused("--saliency", "fisher")
    assert "no use for a bank" in refused("--saliency", "magnitude")
    assert "prepared differently" in refused("--preprocess", "signed")
    changed = onnx.load(workplace.model)
    changed.doc_string = "another file"
    other = tmp_path / "other.onnx"
    onnx.save(changed, other)
    done = run("compress", other, *workplace.options[2:], "--bank", bank, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "different models" in done.stderr


def test_a_class_without_images_is_missed_before_anything_long(workplace, run, tmp_path):
    some = tmp_path / "some.safetensors"
    (tmp_path / "some.txt").write_text("0\n2\n")
    options = ("--data", workplace.data, "--preprocess", "unit")
    assert run("saliency", workplace.model, *options, "--classes", tmp_path / "some.txt", "-o", some).returncode == 0
    done = run(*workplace.options, "--bank", some, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "no sums of output 4: it was made with --classes that left it out" in done.stderr


def test_sums_of_the_network_as_it_is_do_not_serve_one_that_is_fine_tuned_first(workplace, run, bank, tmp_path):
    done = run(*workplace.options, "--bank", bank, "--first-finetune", "1", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "Leave --bank or --first-finetune out." in done.stderr


def test_another_seed_is_told(workplace, run, bank, tmp_path):
    done = run(*workplace.options, "--bank", bank, "--seed", "1", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "images held out here are among those" in done.stdout


def test_merge_adds_banks_up(workplace, run, bank, tmp_path):
    both, other = tmp_path / "both.safetensors", tmp_path / "other.safetensors"
    pairs = coloured_images(12, 1)
    np.savez(
        tmp_path / "other.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs])
    )
    options = ("--data", tmp_path / "other.npz", "--preprocess", "unit")
    assert run("saliency", workplace.model, *options, "-o", other).returncode == 0
    done = run("saliency", "--merge", bank, other, "-o", both)
    assert done.returncode == 0, done.stderr
    parts = [load_file(path) for path in (bank, other, both)]
    assert all(torch.equal(parts[0][name] + parts[1][name], parts[2][name]) for name in parts[0])
    assert open_bank(both).images == dict.fromkeys(range(6), 22)


def test_banks_of_the_same_images_do_not_add_up(workplace, run, bank, tmp_path):
    copy, both = tmp_path / "copy.safetensors", tmp_path / "both.safetensors"
    copy.write_bytes(bank.read_bytes())
    some = tmp_path / "some.safetensors"
    (tmp_path / "some.txt").write_text("0\n2\n")
    options = ("--data", workplace.data, "--preprocess", "unit", "--classes", tmp_path / "some.txt")
    assert run("saliency", workplace.model, *options, "-o", some).returncode == 0
    for other, said in ((bank, "named twice"), (copy, "same images"), (some, "same images, for example of output 0")):
        done = run("saliency", "--merge", bank, other, "-o", both)
        assert done.returncode == 2
        assert said in done.stderr
        assert not both.exists()


def test_labels_one_off_are_told_before_sums_are_made(workplace, run, tmp_path):
    with np.load(workplace.data) as held:
        np.savez(tmp_path / "off.npz", x=held["x"], y=(held["y"] + 1) % 6)
    options = ("--data", tmp_path / "off.npz", "--preprocess", "unit")
    done = run("saliency", workplace.model, *options, "-o", tmp_path / "off.safetensors")
    assert done.returncode == 0
    assert "The untouched model is right about" in done.stderr
    assert "The untouched model is right about" in done.stdout


def test_names_that_a_bank_has_at_other_outputs_are_refused(workplace, run, tmp_path):
    def folders(root: Path, names: str) -> Path:
        with np.load(workplace.data) as held:
            for number, (image, label) in enumerate(zip(held["x"], held["y"], strict=True)):
                (root / names.split()[label]).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(root / names.split()[label] / f"{number}.png")
        return root

    data, mine = folders(tmp_path / "data", "8 9 10 11 12 13"), tmp_path / "mine.safetensors"
    made = run(
        "saliency", workplace.model, "--data", data, "--preprocess", "unit", "--class-order", "lexical", "-o", mine
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "cls.txt").write_text("8\n9\n")
    options = ("--classes", tmp_path / "cls.txt", "--data", data, "--preprocess", "unit", "--epochs", "0")
    done = run(
        *("compress", workplace.model, *options, "--class-order", "natural", "--target", "portable"),
        *("--bank", mine, "-o", tmp_path / "out"),
    )
    assert done.returncode == 2
    assert "'8' was output 4, and here it is output 0" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--merge", "BANK"), "two banks or more"),
        (("--merge", "BANK", "BANK", "--seed", "1"), "not --seed"),
        (("MODEL",), "--data is missing"),
        (("MODEL", "MODEL", "--data", "DATA"), "one model"),
        (("MODEL", "--data", "DATA", "--saliency", "random"), "no use for a bank"),
    ],
)
def test_words_that_do_not_go_together_are_refused(workplace, run, bank, tmp_path, words, said):
    meant = {"BANK": bank, "MODEL": workplace.model, "DATA": workplace.data}
    done = run("saliency", *(meant.get(word, word) for word in words), "-o", tmp_path / "out.safetensors")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_sums_that_the_disk_cannot_hold_are_refused(workplace, run, monkeypatch, tmp_path):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    out = tmp_path / "out.safetensors"
    done = run("saliency", workplace.model, "--data", workplace.data, "--preprocess", "unit", "-o", out)
    assert done.returncode == 2
    assert "6 classes take" in done.stderr


def test_two_processes_of_torchrun_give_the_sums_of_one(workplace, bank, tmp_path):
    out = tmp_path / "two.safetensors"
    command = (
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "crisp_onnx", "saliency", str(workplace.model), "--data", str(workplace.data)),
        *("--preprocess", "unit", "-o", str(out)),
    )
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    one, two = load_file(bank), load_file(out)
    assert open_bank(out).images == open_bank(bank).images
    for name, total in one.items():  # threads differ, so the last bits of sums may
        torch.testing.assert_close(two[name], total, rtol=1e-5, atol=1e-6 * float(total.max()))
