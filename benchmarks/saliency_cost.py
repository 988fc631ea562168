"""What saliency costs: wall time against a bare torch forward and backward, peak memory against the number of images.

    python benchmarks/saliency_cost.py

Time: all go over the same decoded images in turn; ratios are taken round by round. The bare one runs twice, in torch's
plain layout and channels-last, as saliency itself does. Memory: each count of
images runs in a process of its own, on images that lie in one file on disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from real_data import CIFAR_PREPROCESS, RESNET, CifarImages, class_set, data_folder
from record import record
from torch.nn import functional

from crisp_onnx.api.prepare import prepare
from crisp_onnx.api.words import find_preprocess
from crisp_onnx.bridge import to_torch
from crisp_onnx.data import Classes, open_images
from crisp_onnx.report.machine import peak_memory_bytes
from crisp_onnx.saliency import gradient_sums
from crisp_onnx.task import task_of

COUNTS = (256, 2560)


def pieces(path: Path, classes: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """Module, names of the convolutions' weights, the images of an .npz, and the task."""
    folder = data_folder()
    model = folder / "models" / RESNET
    prepared = prepare(model, size=(32, 32))
    chosen = Classes(classes, tuple(map(str, classes)))
    images = open_images(path, chosen, None, find_preprocess(CIFAR_PREPROCESS, prepared.source))
    task = task_of(prepared.head, classes)
    return to_torch(prepared.model), [layer.weight for layer in prepared.layers], images, task


def bare(module, names, images, classes, layout):  # type: ignore[no-untyped-def]
    """What any user of torch would write: forward, loss, backward, over the same batches."""
    parameters = dict(module.named_parameters())
    wanted = torch.tensor(classes)
    for inputs, labels in images.batches(64):
        logits = module(torch.from_numpy(inputs).to(memory_format=layout))
        target = (torch.from_numpy(labels)[:, None] == wanted[None]).int().argmax(1)
        loss = functional.cross_entropy(logits[:, wanted], target)
        torch.autograd.grad(loss, [parameters[name] for name in names])


def measure_time(path: Path, classes: tuple[int, ...], rounds: int) -> dict[str, object]:
    """Median seconds of each, and the median ratios of neighbouring runs."""
    module, names, images, task = pieces(path, classes)
    module.eval()
    last, _, _, _ = pieces(path, classes)
    last.eval().to(memory_format=torch.channels_last)
    runs = (
        lambda: bare(module, names, images, classes, torch.contiguous_format),
        lambda: bare(last, names, images, classes, torch.channels_last),
        lambda: gradient_sums(module, names, images, task),
    )
    seconds = []
    for _ in range(rounds + 1):
        row = []
        for run in runs:
            start = time.perf_counter()
            run()
            row.append(time.perf_counter() - start)
        seconds.append(row)
    times = np.array(seconds[1:])
    plain, channels_last, ours = np.median(times, axis=0).tolist()
    return {
        "images": len(images),
        "bare forward and backward, s": plain,
        "bare, channels-last, s": channels_last,
        "saliency, s": ours,
        "ratio to bare": float(np.median(times[:, 2] / times[:, 0])),
        "ratio to bare, channels-last": float(np.median(times[:, 2] / times[:, 1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    classes = class_set(0)
    if options.memory_of:
        module, names, images, task = pieces(options.memory_of, classes)
        gradient_sums(module, names, images, task)
        print(peak_memory_bytes())
        return
    with tempfile.TemporaryDirectory() as temporary:
        peaks = []
        for count in COUNTS:
            path = Path(temporary) / f"{count}.npz"
            pairs = list(CifarImages(data_folder(), "train", classes, count // len(classes) + 1))[:count]
            np.savez(path, x=np.stack([x for x, _ in pairs]), y=np.array([y for _, y in pairs]))
            command = [sys.executable, __file__, "--memory-of", str(path)]
            peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        row = measure_time(Path(temporary) / f"{COUNTS[-1]}.npz", classes, options.rounds)
    row |= {f"peak memory with {n}, MB": peak / 1e6 for n, peak in zip(COUNTS, peaks, strict=True)}
    row["memory ratio"] = peaks[1] / peaks[0]
    record("saliency_cost", "Cost of saliency on resnet18w32_cifar100", [row])


if __name__ == "__main__":
    main()
