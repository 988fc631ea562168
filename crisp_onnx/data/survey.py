"""Look once at every image of a set before any long stage: what cannot be decoded, and what deep samples mean."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crisp_onnx.data.depth import COLOUR_16, LEAST_SHARE, UNSIGNED_16, Depth, Kind, Range, believed, extremes
from crisp_onnx.data.file_state import State, state_of
from crisp_onnx.data.pixels import decode
from crisp_onnx.data.tally import NAMED, Reason, Tally, listed
from crisp_onnx.errors import CrispError
from crisp_onnx.progress import bar
from crisp_onnx.reading import reason

THREADS = 2
FILES_PER_TASK = 16

EIGHT_BITS: Range = (math.nan, math.nan)
DAMAGED = Reason("image that cannot be read", "images that cannot be read")
NOT_FINITE = Reason("image with samples that are not finite", "images with samples that are not finite")

Reading = Range | Reason
"""The range that an image is read with (`EIGHT_BITS` where it has no other), or why it is left out."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The places of the sound images, and of every image what is black and what white in it, shaped (n, 2).

    Not a number where 8 bits say so already. `states` (n, 2) tell files that are changed later on. `notes`: what is
    read in a way that the user should know of.
    """

    sound: npt.NDArray[np.int64]
    ranges: npt.NDArray[np.float64]
    states: npt.NDArray[np.int64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """`wrong` says why an image cannot be read; `extremes` are those of its samples where they are deep."""

    path: str
    state: State
    wrong: str = ""
    depth: Depth | None = None
    extremes: Range = EIGHT_BITS
    animated: bool = False

    @property
    def is_finite(self) -> bool:
        return not math.isnan(self.extremes[0])


def survey(root: str, paths: Sequence[str], given: Range | None, tally: Tally) -> Survey:
    """Decode each of `paths` under `root` once; what cannot be used goes to `tally`.

    The range of deep images is `given` by the user, stated in the file, or believed of all such images together.
    """
    seen = _look_at_all(root, paths)
    readings: dict[Kind, Reading] = {}
    notes = []
    unclear = [one for one in seen if one.depth is not None and one.is_finite and _said(one.depth, given) is None]
    for kind in dict.fromkeys(one.depth.kind for one in unclear if one.depth is not None):
        members = [one for one in unclear if one.depth is not None and one.depth.kind is kind]
        readings[kind], note = _of_kind(kind, members)
        notes += note
    sound = []
    ranges = np.full((len(seen), 2), math.nan)
    for place, one in enumerate(seen):
        reading = _reading(one, given, readings)
        if isinstance(reading, Reason):
            tally.add(reading, f"{one.path}: {one.wrong}" if one.wrong else one.path)
        else:
            sound.append(place)
            ranges[place] = reading
    animated = [one.path for one in seen if one.animated and not one.wrong]
    if animated:
        have = "file has" if len(animated) == 1 else "files have"
        named = listed(animated[:NAMED], len(animated))
        notes.append(f"{len(animated)} {have} several frames or pages ({named}), of which the first is read.")
    states = np.array([one.state for one in seen], np.int64).reshape(-1, 2)
    return Survey(np.array(sound, np.int64), ranges, states, tuple(notes))


def _reading(one: _Seen, given: Range | None, readings: Mapping[Kind, Reading]) -> Reading:
    if one.wrong:
        return DAMAGED
    if one.depth is None:
        return EIGHT_BITS
    if not one.is_finite:
        return NOT_FINITE
    return _said(one.depth, given) or readings[one.depth.kind]


def _said(depth: Depth, given: Range | None) -> Range | None:
    """The range that the user or the file's header states; neither helps where a decoder has cut the samples."""
    return None if depth.kind is COLOUR_16 else given or depth.stated


def _of_kind(kind: Kind, members: Sequence[_Seen]) -> tuple[Reading, list[str]]:
    """How the images of a kind are read of which nothing is said, and what to tell of it."""
    low = min(one.extremes[0] for one in members)
    high = max(one.extremes[1] for one in members)
    range_ = believed(kind, low, high)
    if kind is COLOUR_16:
        hint = "they are dark, and of 16-bit colour the upper 8 bits alone are read; convert them to 8 bits"
        return EIGHT_BITS if range_ else _unclear(kind, hint), []
    if range_ is None:
        hint = f"samples reach from {low:g} to {high:g}; say with --preprocess range=LOW/HIGH what is black and white"
        return _unclear(kind, hint), []
    if kind is UNSIGNED_16 and range_[1] == kind.whites[-1]:
        return range_, _of_other_depth(members, high)
    images = "image has" if len(members) == 1 else "images have"
    note = (
        f"{len(members)} {kind.name} {images} samples from {low:g} to {high:g} and are read with 0 as black and "
        f"{range_[1]:g} as white. Say --preprocess range=LOW/HIGH if that is wrong."
    )
    return range_, [note]


def _of_other_depth(members: Sequence[_Seen], high: float) -> list[str]:
    """What to tell of 16-bit images that stay far below the rest of their set, as those of fewer bits do."""
    dark = [one for one in members if one.extremes[1] < LEAST_SHARE * high]
    if not dark:
        return []
    whole = _folders_of(dark) - _folders_of(one for one in members if one.extremes[1] >= LEAST_SHARE * high)
    places = sorted(whole) or [one.path for one in dark]
    named, most = listed(places[:NAMED], len(places)), max(one.extremes[1] for one in dark)
    return [
        f"{len(dark)} of {len(members)} 16-bit images are far darker than the rest ({named}: no sample over "
        f"{most:g}, others up to {high:g}), and all are read with 65535 as white. If they hold fewer "
        "bits, convert them to 8 bits."
    ]


def _folders_of(images: Iterable[_Seen]) -> set[str]:
    return {os.path.dirname(one.path) for one in images}  # noqa: PTH120


def _unclear(kind: Kind, hint: str) -> Reason:
    return Reason(f"{kind.name} image of unclear range", f"{kind.name} images of unclear range", hint)


def _look_at_all(root: str, paths: Sequence[str]) -> list[_Seen]:
    seen: list[_Seen] = []
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="survey")
    pieces = [paths[start : start + FILES_PER_TASK] for start in range(0, len(paths), FILES_PER_TASK)]
    try:
        with bar("looking at the images", len(paths)) as advance:
            for some in pool.map(lambda piece: [_look_at(root, path) for path in piece], pieces):
                seen += some
                advance(len(some))
    finally:
        pool.shutdown(cancel_futures=True)
    return seen


def _look_at(root: str, path: str) -> _Seen:
    place = os.path.join(root, path)  # noqa: PTH118
    state: State = (0, 0)
    try:
        state = state_of(place)
        picture = decode(place)
    except (CrispError, OSError) as error:
        return _Seen(path, state, reason(error.__cause__ or error))
    deep = picture.depth is not None
    return _Seen(path, state, "", picture.depth, extremes(picture.image) if deep else EIGHT_BITS, picture.animated)
