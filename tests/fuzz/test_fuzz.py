"""A few mutations of every kind of file, in this process; `make fuzz` does a hundred thousand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz.mutate import mutate_model
from fuzz.targets import TARGETS, fault_of, mutated
from onnx import helper

COUNTS = {"images": 150, "archives": 60, "pickles": 60, "texts": 200, "hardware": 30, "models": 12}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_changed_files_are_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    (tmp_path / "seeds").mkdir()
    found = target.seeds(tmp_path / "seeds")
    for number in range(COUNTS[name]):
        file, content = mutated(target, found, f"{name}/test/{number}")
        path = tmp_path / str(number) / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        fault = fault_of(target.read, path)
        if fault is not None:
            raise AssertionError(f"mutation {number} of {name}, {file}") from fault


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"hybrids", "compress"}))
def test_the_seeds_themselves_are_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    (tmp_path / "seeds").mkdir()
    for number, (file, content) in enumerate(target.seeds(tmp_path / "seeds").items()):
        path = tmp_path / str(number) / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        target.read(path)


def test_a_graph_of_which_little_is_left_can_still_be_changed() -> None:
    bare = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "bare", [], []))
    for number in range(200):
        mutate_model(bare.SerializeToString(), random.Random(number))
