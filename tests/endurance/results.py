"""What stands in a folder of results: one whole run, or what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import yaml

from crisp_onnx.api import inspect
from crisp_onnx.runtime import session

OUR_OWN = ".crisp-"


def what_stands(out: Path) -> int | str:
    """The seed of the one run that all files in `out` are of, as they are seen through it; else a sentence."""
    if not (out / "model.onnx").exists():
        left = [path.name for path in out.iterdir() if not path.name.startswith(OUR_OWN)] if out.exists() else []
        return f"no model, but {left}" if left else "nothing"
    model = onnx.load(out / "model.onnx", load_external_data=False)
    stamps = [p.value for p in model.metadata_props if p.key.endswith(".recipe")]
    stamped = yaml.safe_load(stamps[0])["seed"]
    report = json.loads((out / "report.json").read_text())
    seeds = {
        "model": stamped,
        "report": report["seed"],
        "recipe": yaml.safe_load((out / "recipe.yaml").read_text()).get("seed"),
    }
    if len(set(seeds.values())) > 1:
        return f"files of several runs: {seeds}"
    missing = [name for name in report["files"] if not (out / name).exists()]
    if missing:
        return f"the report names {missing}, which are not there"
    places = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    for place in places:
        digest = hashlib.sha256((out / place).read_bytes()).hexdigest()
        if not place.startswith(f"model.onnx.{digest[:12]}"):
            return f"{place} holds other weights than its name says"
    inspect(out / "model.onnx")
    answers = session(out / "model.onnx").run(None, {"image": np.ones((1, 3, 12, 12), np.float32)})
    return stamped if np.isfinite(answers[0]).all() else "answers that are not finite"


def left_over(out: Path) -> list[str]:
    """Hidden names of ours in the folder and beside it."""
    return [str(path) for folder in (out, out.parent) if folder.exists() for path in folder.glob(f"{OUR_OWN}*")]
