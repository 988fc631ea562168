"""What a segmentation network loses: the U-Net of samples/shapes by fewer channels, by packed zeros and by both.

python -m benchmarks.segmentation [--folder shapes] [--setting "hybrid 80 %" ...]

Trains the network first where the folder has none (minutes), and draws more images for the settings that learn from
them. A setting whose report stands in the folder is not run again. Mean IoU is that over the user's four classes, on
images that nothing was chosen on.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from benchmarks.record import record
from crisp_onnx import Recipe, compress
from crisp_onnx.report.schema import Report, from_json

SAMPLE = Path(__file__).parents[1] / "samples" / "shapes" / "train.py"
MORE, MORE_SEED = 3200, 2
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "hybrid 80 %": {"method": "hybrid", "target": "portable"},
        "channels, MACs 25 %": {"method": "channels", "macs": 0.25},
        "channels, MACs 10 %": {"method": "channels", "macs": 0.1},
        "channels, MACs 10 %, 40 epochs": {"method": "channels", "macs": 0.1, "epochs": 40, "round_channels": 4},
        "channels, MACs 10 %, 3,200 images": {
            "method": "channels",
            "macs": 0.1,
            "epochs": 40,
            "round_channels": 4,
            "data": "more",
        },
        "channels, MACs 30 %, one-shot": {"method": "channels", "macs": 0.3, "epochs": 0},
        "channels+hybrid, MACs 20 %": {"method": "channels+hybrid", "macs": 0.2, "target": "portable"},
    }
)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("shapes"), show_default=True)
@click.option("--setting", "settings", multiple=True, default=tuple(SETTINGS), type=click.Choice(list(SETTINGS)))
def main(folder: Path, settings: tuple[str, ...]) -> None:
    """Measure what is not measured yet, print and write the table."""
    if not (folder / "shapes.onnx").exists():
        subprocess.run([sys.executable, str(SAMPLE), "--output", str(folder)], check=True)
    rows = [_row(name, report_of(folder, name)) for name in settings]
    record(
        "segmentation", "A U-Net for four of its six classes", rows,
        notes=[
            "800 images of 48x48 to learn from, 200 to judge by; 85.9 M MACs. In brackets, the 95 % interval of the "
            "change, by drawing the images anew.",
            "20 epochs and widths in multiples of 8 where nothing else is said; those of 40 epochs are multiples of 4.",
        ],
    )  # fmt: skip


def report_of(folder: Path, name: str) -> Report:
    """The report of a setting, run where it has not been."""
    output = folder / "compressed" / "".join(letter if letter.isalnum() else "-" for letter in name)
    written = output / "report.json"
    if written.exists():
        return from_json(written.read_text(encoding="utf-8"))
    options = {"data": "train", **SETTINGS[name]}
    if options["data"] == "more" and not (folder / "more").exists():
        sample = runpy.run_path(str(SAMPLE))
        sample["write_pairs"](folder / "more", *sample["draw"](MORE, seed=MORE_SEED))
    return compress(
        Recipe(
            model=folder / "shapes.onnx", task="segmentation", classes=folder / "cls.txt",
            labels=folder / "labels.txt", eval_data=folder / "val", preprocess="unit", output=output,
            **options | {"data": folder / options["data"]},
        )
    )  # fmt: skip


def _row(name: str, report: Report) -> Mapping[str, object]:
    found = report.segmentation
    if found is None:
        raise click.ClickException(f"{name} was not judged: {report.accuracy.reason}.")
    dense, left = found.dense.mean_iou_restricted, found.compressed.mean_iou_restricted
    low, high = found.change.low, found.change.high
    return {
        "setting": name,
        "MACs executed": report.macs.kept_ratio,
        "zeros": report.sparsity.weights,
        "file kB": report.file.bytes / 1000,
        "mean IoU dense": f"{100 * dense:.1f}",
        "compressed": f"{100 * left:.1f}",
        "points": f"{100 * (left - dense):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
    }


if __name__ == "__main__":
    main()
