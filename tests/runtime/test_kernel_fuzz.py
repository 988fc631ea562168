"""Random layers, sound and corrupted, near the limits of every size, on eight threads, sanitized and emulated."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from kernel_programs import kernel_program

from crisp_onnx.runtime.library import Element, available_isas

LAYERS_IN_ALL = 50_000
SEED = 20_260_101
ELEMENTS: tuple[Element, ...] = ("float32", "int8")


def fuzzed(command: list[str], element: Element, layers: int, isa: str, seed: int = SEED) -> dict[str, Any]:
    """What became of the layers. Fails on a wrong answer, a wrong size, or a sanitizer's report."""
    words = [*command, element, str(layers), str(seed), isa]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{element}, {isa}, seed {seed}: " + done.stdout[-2000:] + done.stderr[-6000:]
    assert not done.stderr, done.stderr[-6000:]
    return json.loads(done.stdout)


def has_tried_all(found: dict[str, Any]) -> bool:
    return all(found[what] > 0 for what in ("sound", "refused", "shapes_run", "giants", "giants_refused"))


@pytest.mark.parametrize("element", ELEMENTS)
def test_random_layers_agree_with_plain_loops_and_sizes_are_right_or_refused(element: Element) -> None:
    program = kernel_program("fuzz")
    for isa in available_isas(element):
        assert has_tried_all(fuzzed(program, element, 400, isa))


@pytest.mark.slow
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_fifty_thousand_random_layers_pass_the_sanitizers(sanitizer: str, element: Element) -> None:
    program = kernel_program("fuzz", sanitizer=sanitizer)
    isas = available_isas(element)
    for number, isa in enumerate(isas):
        found = fuzzed(program, element, -(-LAYERS_IN_ALL // len(isas)), isa, SEED + number)
        print(sanitizer, element, found)
        assert has_tried_all(found)


@pytest.mark.slow
@pytest.mark.parametrize(("element", "isa"), [("float32", "neon"), ("int8", "neon_dot"), ("int8", "portable")])
def test_random_layers_agree_with_plain_loops_on_arm(element: Element, isa: str) -> None:
    found = fuzzed(kernel_program("fuzz", arm=True), element, 2000, isa)
    print(element, found)
    assert has_tried_all(found)
