"""`Bank`: the sums of every class, kept once in a safetensors file, of which any list of classes takes its own.

A file holds a float32 tensor `<class>/<weight>` for each class (an output of the model) and weight, in the shape of the
statistic, and says in its metadata what they are sums of. It is written class by class and read class by class: memory
holds the sums of one class, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from crisp_onnx.errors import CrispError
from crisp_onnx.model.write import write_files
from crisp_onnx.reading import border, shown
from crisp_onnx.saliency.sums import Sums, merged
from crisp_onnx.saliency.tensor_file import MAX_HEADER_BYTES, TensorFile, open_tensors

FORMAT = "crisp-bank/1"
FLOAT_BYTES = 4
MOST_DIGESTS = 64
SAME_SHARE = 0.05
"""Of the digests of a class: sets that share more are no two shards of one data set with a picture twice in it."""
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
OfClass: TypeAlias = tuple[int, Mapping[str, Tensor]]
_AGAIN = "Make one with `crisp-onnx saliency`."


@dataclass(frozen=True)
class Subject:
    """What sums are of. Sums of different subjects mean nothing together.

    `sha256`: of the model's file. `output`: the names of those that matter. `statistic`: what a criterion needs.
    `preprocess`: how images become the model's input. `seed`: of the images held out.
    """

    sha256: str
    output: str
    statistic: str
    preprocess: str
    seed: int


@dataclass(frozen=True)
class Origin:
    """Where sums came from.

    `names`: what each output was called, as far as that was known. `seen`: digests of the images by class, the
    smallest `MOST_DIGESTS` of them, by which banks of the same images are told. `left_out`: outputs that were not asked
    for.
    """

    names: Mapping[int, tuple[str, ...]]
    seen: Mapping[int, tuple[str, ...]]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Bank:
    """A bank's file, which must stay as it is. `images`: how many each class's sums are over. `origin`: None where an
    older version wrote it."""

    file: TensorFile
    subject: Subject
    images: Mapping[int, int]
    shapes: Shapes
    origin: Origin | None = None

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes it holds, ascending."""
        return tuple(sorted(self.images))

    @property
    def bytes(self) -> int:
        """Of all sums; the file adds its header."""
        return bank_bytes(self.shapes, len(self.images))

    def of_classes(self, wanted: Iterable[int], weights: Sequence[str]) -> Sums:
        """The sums over the images of the `wanted` classes, added up in ascending order.

        Raises:
            CrispError: it lacks a class or a weight, or the file is damaged or was changed meanwhile.
        """
        return merged(Sums(self._read(index, weights), self.images[index]) for index in sorted(self._held(wanted)))

    def each(self) -> Iterator[OfClass]:
        """The sums of every class, ascending."""
        for index in self.classes:
            yield index, self._read(index, tuple(self.shapes))

    def lacks(self, wanted: Iterable[int]) -> tuple[int, ...]:
        """Those of the `wanted` classes that it does not hold."""
        return tuple(index for index in wanted if index not in self.images)

    def _held(self, wanted: Iterable[int]) -> tuple[int, ...]:
        classes = tuple(wanted)
        missing = self.lacks(classes)
        if missing:
            raise CrispError(f"The bank {shown(str(self.path))} holds no sums of output {missing[0]}. {_AGAIN}")
        return classes

    def require_sound(self, wanted: Iterable[int], weights: Sequence[str]) -> None:
        """Read the sums of the `wanted` classes once, before anything is begun that needs them.

        Raises:
            CrispError: it lacks a class, or what it holds cannot be sums.
        """
        for index in self._held(wanted):
            self._read(index, weights)

    def _read(self, index: int, weights: Sequence[str]) -> dict[str, Tensor]:
        read = self.file.read(f"{index}/{name}" for name in weights)
        sums = {name: read[f"{index}/{name}"] for name in weights}
        for name, total in sums.items():
            wrong = unlike_sums(total)
            if wrong:
                raise CrispError(
                    f"The bank {shown(str(self.path))} is damaged: sums of output {index} for weight {name!r} {wrong}. "
                    f"{_AGAIN}"
                )
        return sums


def unlike_sums(total: Tensor) -> str:
    """Why numbers cannot be what a criterion adds up, absolute values or squares; an empty string if they can."""
    if not len(total.reshape(-1)):
        return ""
    least, most = (float(one) for one in torch.aminmax(total))
    if not (isfinite(least) and isfinite(most)):  # NaN anywhere makes both NaN
        return "are not finite"
    if least < 0:
        return f"are negative ({least:.3g})"
    # A layer's mass is a sum of these, which float32 must hold.
    return "" if most <= torch.finfo(torch.float32).max / total.numel() else f"are too large to add up ({most:.3g})"


def bank_bytes(shapes: Shapes, classes: int) -> int:
    """Bytes of the sums of that many classes."""
    return classes * FLOAT_BYTES * sum(map(prod, shapes.values()))


def open_bank(path: Path) -> Bank:
    """Look at a bank, its header alone.

    Raises:
        CrispError: no such file, no bank, or one whose parts do not go together.
    """
    if not path.is_file():
        raise CrispError(f"There is no bank at {shown(str(path))}. {_AGAIN}")
    file = open_tensors(path, _AGAIN)
    if file.metadata.get("format") != FORMAT:
        raise CrispError(f"{shown(str(path))} is no bank of {FORMAT}. {_AGAIN}")
    with border(f"{shown(str(path))} cannot be read as a bank", _AGAIN):
        about = json.loads(file.metadata["about"])
        images = {int(index): int(count) for index, count in about.pop("images").items()}
        origin = _origin_of(about.pop("origin", None))
        subject = Subject(**about)
    shapes = {key.partition("/")[2]: shape for key, shape in file.shapes.items()}
    whole = {f"{index}/{name}": shape for index in images for name, shape in shapes.items()}
    if whole != file.shapes or not images or min(images.values()) < 1:
        raise CrispError(f"The bank {shown(str(path))} is damaged: its classes do not hold the same weights. {_AGAIN}")
    return Bank(file, subject, images, shapes, origin)


def _origin_of(told: Any) -> Origin | None:
    if told is None:
        return None
    names, seen = (
        {int(index): tuple(map(str, words)) for index, words in told[key].items()} for key in ("names", "seen")
    )
    return Origin(names, seen, tuple(map(int, told["left_out"])))


def write_bank(
    path: Path,
    subject: Subject,
    images: Mapping[int, int],
    shapes: Shapes,
    sums: Iterable[OfClass],
    origin: Origin | None = None,
) -> Bank:
    """Write the sums of each class as they come, in the order of `images`; the file is there when all of it is.

    Raises:
        CrispError: the folder is missing, read-only or full.
    """
    write_files({path: _pieces(subject, images, shapes, sums, origin)})
    return open_bank(path)


def add_banks(banks: Sequence[Bank], output: Path) -> Bank:
    """One bank of what several hold: sums of the same class add up.

    Raises:
        CrispError: they are of different models, images' forms or statistics, or `output` cannot be written.
    """
    first = banks[0]
    for other in banks[1:]:
        unlike = differences(first.subject, replace(other.subject, seed=first.subject.seed))
        if not unlike and first.shapes != other.shapes:
            unlike = ("they hold different weights",)
        if unlike:
            names = f"{shown(str(first.path))} and {shown(str(other.path))}"
            raise CrispError(f"{names} cannot be added up: {unlike[0]}. Merge banks of one model, made alike.")
    for place, bank in enumerate(banks):
        for other in banks[:place]:
            _require_other_images(other, bank)
    images: dict[int, int] = {}
    for bank in banks:
        for index, count in bank.images.items():
            images[index] = images.get(index, 0) + count
    images = dict(sorted(images.items()))
    weights = tuple(first.shapes)

    def added() -> Iterator[OfClass]:
        for index in images:
            yield index, merged(bank.of_classes([index], weights) for bank in banks if index in bank.images).totals

    return write_bank(output, first.subject, images, first.shapes, added(), _joined(banks))


def _require_other_images(one: Bank, other: Bank) -> None:
    """Refuse two banks of the same images, which would count twice."""
    names = f"{shown(str(one.path))} and {shown(str(other.path))}"
    same = f"{names} were made of the same images"
    remedy = "Merge banks of different images, each of them once."
    if one.path.samefile(other.path):
        raise CrispError(f"{shown(str(one.path))} is named twice, so its images would count twice. {remedy}")
    if one.origin is None or other.origin is None:
        return
    for index in one.images.keys() & other.images.keys():
        seen = [set(bank.origin.seen.get(index, ())) for bank in (one, other) if bank.origin is not None]
        if len(seen[0] & seen[1]) > SAME_SHARE * min(map(len, seen)):
            raise CrispError(f"{same}, for example of output {index}, which would count twice. {remedy}")


def _joined(banks: Sequence[Bank]) -> Origin | None:
    """The origin of what all banks hold; None where that of one is not known."""
    origins = [bank.origin for bank in banks if bank.origin is not None]
    if len(origins) < len(banks):
        return None
    names = {index: words for origin in reversed(origins) for index, words in origin.names.items()}
    held = {index for origin in origins for index in origin.seen}
    seen = {
        index: tuple(sorted({one for origin in origins for one in origin.seen.get(index, ())})[:MOST_DIGESTS])
        for index in sorted(held)
    }
    left_out = set.intersection(*(set(origin.left_out) for origin in origins))
    return Origin(names, seen, tuple(sorted(left_out)))


def differences(one: Subject, other: Subject) -> tuple[str, ...]:
    """What sets two subjects apart, a clause each, in the words of their fields."""
    words = {
        "sha256": "they are of different models",
        "output": "they are of different outputs",
        "statistic": "they are of different statistics",
        "preprocess": "their images were prepared differently",
        "seed": "other images were held out",
    }
    left, right = asdict(one), asdict(other)
    return tuple(
        f"{said} ({_short(left[key])} and {_short(right[key])})"
        for key, said in words.items()
        if left[key] != right[key]
    )


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _pieces(
    subject: Subject, images: Mapping[int, int], shapes: Shapes, sums: Iterable[OfClass], origin: Origin | None
) -> Iterator[bytes]:
    """The file: length of its header, header, and the sums one by one, as safetensors has it."""
    about: dict[str, Any] = {**asdict(subject), "images": images}
    if origin is not None:
        about["origin"] = asdict(origin)
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "about": json.dumps(about)}}
    end = 0
    for index in images:
        for name, shape in shapes.items():
            start, end = end, end + FLOAT_BYTES * prod(shape)
            header[f"{index}/{name}"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise CrispError(
            f"A bank of {len(images)} classes and {len(shapes)} weights is more than one file can say of itself. Make "
            "several, each with some of the classes (--classes)."
        )
    yield len(text).to_bytes(8, "little")
    yield text
    for (index, totals), expected in zip(sums, images, strict=True):
        for name, shape in shapes.items():
            total = totals[name].detach().to("cpu", torch.float32)
            if index != expected or tuple(total.shape) != tuple(shape):
                raise ValueError(f"the sums of class {index} do not go with the header")
            wrong = unlike_sums(total)
            if wrong:
                raise CrispError(
                    f"The sums of output {index} for weight {name!r} {wrong}: the model overflows on these images. "
                    "Check --preprocess."
                )
            yield total.contiguous().numpy().tobytes()
