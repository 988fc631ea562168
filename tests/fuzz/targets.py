"""What is fuzzed: for every kind of file its sound seeds, its mutations, and the part of the product that reads it."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz import mutate, seeds

from crisp_onnx.errors import BudgetMissed, CrispError

OUTPUTS = len(seeds.NAMES)


@dataclass(frozen=True)
class Target:
    """`seeds(folder)`: files by name. `mutation`: of one of them, by its name. `read(path)`: what must not fail.

    `share` of all mutations. Every second of processor time that one of them takes over `slow_s` is too much.
    """

    share: float
    seeds: Callable[[Path], dict[str, bytes]]
    mutation: Callable[[str], mutate.Mutation]
    read: Callable[[Path], None]
    slow_s: float = 20.0


def mutated(target: Target, found: dict[str, bytes], seed: str) -> tuple[str, bytes]:
    """Name and content of one mutation; the same `seed` gives the same."""
    chance = random.Random(seed)
    name = chance.choice(sorted(found))
    return name, target.mutation(name)(found[name], chance)


def fault_of(read: Callable[[Path], None], path: Path) -> BaseException | None:
    """What would end a command in exit 1; refusals in a sentence are none."""
    logging.getLogger("crisp_onnx").setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            read(path)
    except CrispError as error:
        return error if error.exit_code == 1 else None
    except MemoryError:  # said in a sentence at the end of the command line
        return None
    except Exception as error:
        return error
    return None


def _image(path: Path) -> None:
    from crisp_onnx.data import open_images

    for form in (_pixels(3, 16), _pixels(1, 5)):
        for _ in open_images(path.parent.parent, _classes(0), None, form).batches(4):
            pass


def _archive(path: Path) -> None:
    from crisp_onnx.data import labels_from_names, open_images, source_names

    names = source_names(path)
    labels = None if names is None else labels_from_names(names, path.name)
    for _ in open_images(path, _classes(0, 5), labels, _pixels(3, 12)).batches(4):
        pass


def _pickled(path: Path) -> None:
    whole = {name: content for name, content in seeds.pickles().items() if name[0] in "25"}
    for name, content in whole.items():
        other = path.parent / Path(name).name
        if other != path and path.suffix != ".gz":
            other.write_bytes(content)
    _archive(path if path.suffix == ".gz" else path.parent)


def _text(path: Path) -> None:
    from crisp_onnx.data import labels_from_names, parse_preprocess, read_classes, read_labels
    from crisp_onnx.model.spec import TensorSpec
    from crisp_onnx.recipe import make_recipe, read_recipe, recipe_text

    open_sides = TensorSpec("x", (None, 3, None, None), np.dtype(np.float32))
    if path.name == "recipe.yaml":
        recipe_text(make_recipe(read_recipe(path)))
    elif path.name == "preprocess.yaml":
        parse_preprocess(path, open_sides)
    elif path.name == "preprocess.txt":
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        parsed = parse_preprocess(text, open_sides)
        assert parse_preprocess(parsed.describe(), open_sides) == parsed
    elif path.name == "classes.txt":
        read_classes(path, labels_from_names(seeds.NAMES, "names"), OUTPUTS)
    else:
        for label in read_labels(path).entries.values():
            label.name.encode()


def _hardware(path: Path) -> None:
    from crisp_onnx.lowering.target import load_target

    load_target(path)


def _model(path: Path) -> None:
    _command("check", path)


def _hybrid(path: Path) -> None:
    _command("inspect", path)
    _command("check", path, "--json")


def _compressed(path: Path) -> None:
    np.savez(path.parent / "d.npz", x=seeds.PIXELS, y=seeds.LABELS)
    (path.parent / "cls.txt").write_text("0\n5\n")
    _command(
        "compress", path, "--classes", path.parent / "cls.txt", "--data", path.parent / "d.npz", "--preprocess", "unit",
        "--epochs", "0", "--target", "portable", "-o", path.parent / "out", "-q",
    )  # fmt: skip


def _command(*words: object) -> None:
    """Run the command line in this process up to its border."""
    import click

    from crisp_onnx.cli import cli

    with contextlib.suppress(click.ClickException):
        cli.main([str(word) for word in words], standalone_mode=False)


def _pixels(channels: int, side: int):  # type: ignore[no-untyped-def]
    from crisp_onnx.data import Preprocess

    return Preprocess((0.0,) * channels, (1.0,) * channels, (side, side), scale=1.0, resize=side + 4)


def _classes(*indices: int):  # type: ignore[no-untyped-def]
    from crisp_onnx.data import Classes

    return Classes(indices, tuple(seeds.NAMES[index] for index in indices))


def _hybrid_seeds(folder: Path) -> dict[str, bytes]:
    """A compressed model, all in one file."""
    found = seeds.models(folder)
    path = folder / "bn.onnx"
    path.write_bytes(found["bn.onnx"])
    with contextlib.suppress(BudgetMissed):  # the model is small, and the nearest sparsity is 0.8056
        _compressed(path)
    return {"model.onnx": (folder / "out" / "model.onnx").read_bytes()}


def _hardware_seeds(folder: Path) -> dict[str, bytes]:
    from crisp_onnx.lowering.target import target_names, targets_folder

    return {f"{name}.yaml": (targets_folder() / f"{name}.yaml").read_bytes() for name in target_names()}


def _images(name: str) -> mutate.Mutation:
    return mutate.mutate_png if name.endswith(".png") else mutate.mutate_bytes


TARGETS = {
    "images": Target(
        0.4,
        lambda folder: {f"root/0/{name}": content for name, content in seeds.images().items()},
        lambda name: _either(_images(name)),
        _image,
    ),
    "archives": Target(0.15, lambda folder: seeds.archives(), lambda name: mutate.mutate_bytes, _archive),
    "pickles": Target(0.1, lambda folder: seeds.pickles(), lambda name: mutate.mutate_bytes, _pickled),
    "texts": Target(0.15, lambda folder: seeds.texts(), lambda name: mutate.mutate_text, _text),
    "hardware": Target(0.04, _hardware_seeds, lambda name: mutate.mutate_text, _hardware),
    "models": Target(0.12, seeds.models, lambda name: mutate.mutate_model, _model, slow_s=60),
    "hybrids": Target(0.035, _hybrid_seeds, lambda name: mutate.mutate_model, _hybrid, slow_s=60),
    "compress": Target(0.005, seeds.models, lambda name: mutate.mutate_model, _compressed, slow_s=120),
}


def _either(mutation: mutate.Mutation) -> mutate.Mutation:
    """That mutation, or now and then plain bytes."""
    return lambda content, chance: (mutation if chance.random() < 0.7 else mutate.mutate_bytes)(content, chance)
