"""Walking image folders: what is an image by its name, what is passed over and counted, and links that lead astray."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from crisp_onnx.data.classes import Classes
from crisp_onnx.data.folder import class_folders
from crisp_onnx.data.images import Images
from crisp_onnx.data.labels import labels_from_names
from crisp_onnx.data.preprocess import Preprocess
from crisp_onnx.data.sources import open_images
from crisp_onnx.errors import CrispError

RAW = Preprocess((0.0,) * 3, (1.0,) * 3, (4, 4), scale=1.0)
AB = labels_from_names(["a", "b"], "ab.txt")
ONLY_A = Classes((0,), ("a",))


def draw(path: Path | str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:  # noqa: PTH123
        Image.new("RGB", (4, 4), (9, 9, 9)).save(file, "PNG")


def opened(root: Path) -> Images:
    return open_images(root, ONLY_A, AB, RAW)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw(tmp_path / "r/a/p.png")
    draw(tmp_path / "r/b/p.png")
    return tmp_path / "r"


@pytest.mark.parametrize(
    "name",
    ["_DSC0001.jpg", "x.jfif", "x.JFIF", "x.JPG", "x.Jpeg", "x.jpe", "x.TIF", "_.png", "__.png", "x.y.png", " .png",
     "犬.png", "a b.png", "x.jp2", "x.pbm", "x.apng", "-x.png", "x.avif", "x.tga"],
)  # fmt: skip
def test_every_image_file_counts_whatever_its_name(root: Path, name: str) -> None:
    draw(root / "a" / name)
    images = opened(root)
    assert len(images) == 2
    assert images.left_out == ("1 images in 1 folders of no wanted class (b)",)


def test_names_in_bytes_that_are_no_utf8_are_read_and_shown_escaped(root: Path) -> None:
    draw(os.fsdecode(os.fsencode(root) + b"/a/caf\xe9.png"))
    draw(os.fsdecode(os.fsencode(root) + b"/caf\xe9/p.png"))
    draw(os.fsdecode(os.fsencode(root) + b"/a/caf\xe9.txt"))
    images = opened(root)
    assert len(images) == 2
    assert images.left_out[0] == r"2 images in 2 folders of no wanted class (b, caf\xe9)"
    assert images.left_out[1] == r"1 file that is no image (a/caf\xe9.txt)"
    labels = labels_from_names(class_folders(root), "x")
    assert labels.candidates(r"caf\xe9") == (2,)
    wanted = open_images(root, Classes((2,), (r"caf\xe9",)), labels, RAW)
    assert len(wanted) == 1
    "\n".join([*images.left_out, *wanted.left_out, labels.entries[2].name]).encode("utf-8")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda a: (a / "gone.png").symlink_to("nowhere.png"), "1 broken link (a/gone.png)"),
        (lambda a: (a / "self.png").symlink_to("self.png"), "1 broken link (a/self.png)"),
        (lambda a: (a / "self").symlink_to("."), "1 link to a folder that is walked already (a/self)"),
        (lambda a: (a / "up").symlink_to(".."), "1 link to a folder that is walked already (a/up)"),
        (lambda a: (a / "empty.png").touch(), "1 empty file (a/empty.png)"),
        (lambda a: (a / "notes.txt").write_text("x"), "1 file that is no image (a/notes.txt)"),
        (lambda a: (a / "noname").write_text("x"), "1 file that is no image (a/noname)"),
        (lambda a: (a / "x.HEIC").write_text("x"), "1 image of a kind that is not read (a/x.HEIC): convert them to"),
        (lambda a: draw(a / ".thumb/x.png"), "1 hidden file (a/.thumb/x.png)"),
        (lambda a: draw(a / "._p.png"), "1 hidden file (a/._p.png)"),
        (lambda a: draw(a / "__MACOSX/p.png"), "1 hidden file (a/__MACOSX/p.png)"),
        (lambda a: draw(a.parent / ".cache/x/p.png"), "1 hidden file (.cache/x/p.png)"),
        (lambda a: draw(a.parent / "loose.png"), "1 image beside the class folders (loose.png)"),
        (lambda a: (a.parent / "gone").symlink_to("nowhere"), "1 broken link (gone)"),
        (lambda a: os.mkfifo(a / "pipe.png"), "1 name that is neither file nor folder (a/pipe.png)"),
        (lambda a: socket.socket(socket.AF_UNIX).bind(str(a / "s.png")), "1 name that is neither file nor folder"),
        (lambda a: [(a / f"{n}.txt").touch() for n in range(5)],
         "5 files that are no images (a/0.txt, a/1.txt, a/2.txt, ...)"),
    ],
)  # fmt: skip
def test_whatever_is_passed_over_is_counted_by_reason(root: Path, make, said: str, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(root)  # sockets have short names
    make(Path("a"))
    images = opened(root)
    assert len(images) == 1
    assert images.left_out[1].startswith(said)
    assert len(images.left_out) == 2
    assert images.told()[1].startswith(f"Left out of image folder {root}: {said}")


def test_links_to_images_and_folders_elsewhere_are_followed(root: Path, tmp_path: Path) -> None:
    draw(tmp_path / "far/x.png")
    draw(tmp_path / "far/deep/y.png")
    (root / "a/link.png").symlink_to(tmp_path / "far/x.png")
    (root / "a/far").symlink_to(tmp_path / "far")
    assert len(opened(root)) == 4


def test_crossing_links_do_not_multiply(root: Path) -> None:
    for name in map(str, range(9)):
        draw(root / "a" / name / "p.png")
        for other in map(str, range(9)):
            (root / "a" / name / f"to{other}").symlink_to(f"../{other}")
    images = opened(root)
    assert len(images) == 10
    assert "links to folders that are walked already" in images.left_out[1]


def test_very_deep_folders_end_in_a_count_and_not_in_a_crash(root: Path) -> None:
    at = os.open(root / "a", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("ddd", dir_fd=at)
        below = os.open("ddd", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        images = opened(root)
    finally:
        subprocess.run(["rm", "-rf", root / "a/ddd"], check=True)  # too deep for pytest to clear away
    assert len(images) == 1
    assert any("that cannot be read" in reason and "File name too long" in reason for reason in images.left_out)


def test_an_unreadable_folder_of_no_wanted_class_costs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> object:
        if folder.endswith(("/b", "/a/locked")):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    scan = os.scandir
    (root / "a/locked").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    images = opened(root)
    assert len(images) == 1
    assert images.left_out[1] == "1 folder that cannot be read (a/locked): Permission denied"


def test_a_class_folder_may_begin_with_an_underscore(root: Path) -> None:
    draw(root / "_unknown_/p.png")
    labels = labels_from_names(["_unknown_", "a", "b"], "x")
    assert len(open_images(root, Classes((0,), ("_unknown_",)), labels, RAW)) == 1
    assert "_unknown_" in class_folders(root)


def test_a_class_left_without_images_says_what_was_left_out(root: Path) -> None:
    (root / "a/p.png").write_bytes(b"")
    with pytest.raises(CrispError, match=r"no images of class 0 \(a\).*are a, b\. Left out: 1 empty file \(a/p"):
        opened(root)
