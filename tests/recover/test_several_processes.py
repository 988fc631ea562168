"""Training that processes share under torchrun gives what one process gives, and leaves all of them with the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from one_of_several import recovered
from safetensors.torch import load_file

from crisp_onnx.model import Model, save
from crisp_onnx.processes import ALONE, Processes
from crisp_onnx.recover import trained_tensors
from crisp_onnx.recover.augment import augment

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize(("items", "count"), [(64, 2), (15, 2), (7, 3), (2, 3)])
def test_shares_are_all_of_it_and_nearly_equal(items: int, count: int) -> None:
    shares = [range(items)[Processes(rank, count).share(items)] for rank in range(count)]
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shares_of_batches_are_shares_of_each_batch() -> None:
    order = np.arange(10)[::-1]
    assert Processes(0, 2).share_of_batches(order, 5).tolist() == [9, 8, 4, 3]
    assert Processes(1, 2).share_of_batches(order, 5).tolist() == [7, 6, 5, 2, 1, 0]
    assert ALONE.share_of_batches(order, 4) is order


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_share_is_shown_as_in_the_whole_batch(channels_last: bool) -> None:
    images = torch.randn(7, 3, 16, 16)
    images = images.permute(0, 2, 3, 1) if channels_last else images
    shown = [
        augment(
            images[share],
            None,
            torch.Generator().manual_seed(1),
            flip=True,
            channels_last=channels_last,
            whole=7,
            share=share,
        )[0]
        for share in (slice(0, 7), slice(0, 3), slice(3, 7))
    ]
    assert torch.equal(shown[0], torch.cat(shown[1:]))
    assert torch.equal(
        shown[0], augment(images, None, torch.Generator().manual_seed(1), flip=True, channels_last=channels_last)[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fixed", "ramp"])
def test_two_processes_come_to_the_weights_of_one(model: Model, tmp_path: Path, mode: str) -> None:
    save(model, tmp_path / "model.onnx")
    command = [*TORCHRUN, str(Path(__file__).with_name("one_of_several.py")), str(tmp_path / "model.onnx")]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    done = subprocess.run(
        [*command, mode, str(tmp_path)], capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    alone = trained_tensors(recovered(model, mode, ALONE))
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor.detach(), rtol=1e-3, atol=1e-4 * float(tensor.abs().max()))


@pytest.mark.slow
def test_compress_under_torchrun_keeps_what_one_process_keeps(tmp_path: Path) -> None:
    from small_models import coloured_images, residual_classifier

    pairs = coloured_images(12)
    np.savez(tmp_path / "data.npz", x=np.stack([x for x, _ in pairs]), y=np.array([y for _, y in pairs]))
    (tmp_path / "cls.txt").write_text("0\n2\n4\n")
    words = [
        *("-m", "crisp_onnx", "compress", str(residual_classifier(tmp_path / "small.onnx"))),
        *("--classes", str(tmp_path / "cls.txt"), "--data", str(tmp_path / "data.npz"), "--preprocess", "unit"),
        *("--target", "portable", "--epochs", "2", "-q", "-o"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for name, command in (("one", (sys.executable,)), ("two", TORCHRUN)):
        done = subprocess.run(
            [*command, *words, str(tmp_path / name)], capture_output=True, text=True, timeout=600, check=False,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        graph = onnx.load(tmp_path / name / "model.onnx").graph
        found.append({tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer})
    one, two = found
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.endswith((".indices", ".blocks")):
            assert np.array_equal(tensor, two[name]), name
        elif tensor.dtype == np.float32:
            assert np.abs(tensor - two[name]).max() <= 0.02 * np.abs(tensor).max(), name
