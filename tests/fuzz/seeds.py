"""Sound files of every kind that the product reads, small, made anew: what mutations start from."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from small_models import residual_classifier

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
LABELS = np.arange(6)
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def images() -> dict[str, bytes]:
    """An image a format and mode, by its name."""
    colour = Image.fromarray(PIXELS[0])
    grey = colour.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [Image.fromarray(PIXELS[1])]}
    made = {
        "rgb.png": (colour, {}), "grey.png": (grey, {}), "palette.png": (colour.quantize(8), {"transparency": 0}),
        "deep.png": (deep, {}), "bits.png": (grey.convert("1"), {}), "turned.jpg": (colour, {"exif": exif}),
        "grey.jpg": (grey, {}), "cmyk.jpg": (colour.convert("CMYK"), {}),
        "progressive.jpg": (colour, {"progressive": True}),
        "one.gif": (colour, {}), "many.gif": (colour, frames), "one.webp": (colour, {}), "many.webp": (colour, frames),
        "rgb.bmp": (colour, {}), "rgb.tif": (colour, {}), "packed.tif": (colour, {"compression": "tiff_lzw"}),
        "deep.tif": (deep, {}), "real.tif": (real, {}), "fax.tif": (grey.convert("1"), {"compression": "group4"}),
        "rgb.ppm": (colour, {}), "real.pfm": (real, {}), "rgb.tga": (colour, {"compression": "tga_rle"}),
        "rgb.sgi": (colour, {}), "rgb.jp2": (colour, {}), "rgb.avif": (colour, {"speed": 10}),
    }  # fmt: skip
    found = {}
    for name, (image, options) in made.items():
        buffer = io.BytesIO()
        try:
            image.save(buffer, **{"format": Image.registered_extensions()[Path(name).suffix], **options})
        except (KeyError, OSError):  # a Pillow built without that format
            continue
        found[name] = buffer.getvalue()
    return found


def archives() -> dict[str, bytes]:
    """`.npz` files, plain and packed."""
    found = {}
    for name, save in (("plain.npz", np.savez), ("packed.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, x=PIXELS, y=LABELS, classes=np.array(NAMES))
        found[name] = buffer.getvalue()
    return found


def pickles() -> dict[str, bytes]:
    """The files of a CIFAR-100 folder, in two protocols, and the folder as an archive."""
    found = {}
    data = np.random.default_rng(1).integers(0, 256, (6, 3072), np.uint8)
    for protocol in (2, 5):
        train = pickle.dumps({"data": data, "fine_labels": LABELS.tolist()}, protocol)
        meta = pickle.dumps({"fine_label_names": list(NAMES)}, protocol)
        found |= {f"{protocol}/train": train, f"{protocol}/meta": meta}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name in ("train", "meta"):
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(found[f"2/{name}"])
            archive.addfile(info, io.BytesIO(found[f"2/{name}"]))
    return {**found, "cifar.tar.gz": buffer.getvalue()}


def texts() -> dict[str, bytes]:
    """Recipes, preprocessing, label files, class lists."""
    recipe = (
        "model: m.onnx\nclasses: [ant, 2, fox]\ndata: images\npreprocess: unit\npattern: 2:4\nblock: 16\n"
        "vector_rows: 8\nsparsity: 0.8\nsaliency: crisp\nepochs: 3\nhead: keep\nkeep_dense: [stem, 'conv[0-9]']\n"
        "emit: hybrid\ntarget: portable\nseed: 0\noutput: out\n"
    )
    tabbed = "".join(f"{index}\tn0000000{index}\t{name}, a {name}\n" for index, name in enumerate(NAMES))
    found = {
        "recipe.yaml": recipe,
        "preprocess.yaml": "preset: imagenet\nmean: [0.5, 0.4, 0.3]\nstd: 0.25\nsize: [48, 32]\norder: bgr\n",
        "preprocess.txt": "mean=0.5/0.4/0.3,std=0.2,scale=1/255,size=48x32,resize=60,order=bgr,range=0/4095",
        "labels.txt": "\n".join(NAMES) + "\n",
        "tabbed.txt": tabbed,
        "labels.json": json.dumps({str(index): [f"n0000000{index}", name] for index, name in enumerate(NAMES)}),
        "classes.txt": "ant\n2 # comment\n5\tfox\n",
    }
    return {name: text.encode() for name, text in found.items()}


def models(folder: Path) -> dict[str, bytes]:
    """Dense models as exporters write them."""
    found = {}
    for name, options in (("bn", {}), ("bias", {"batch_norm": False}), ("softmax", {"softmax": True})):
        found[f"{name}.onnx"] = residual_classifier(folder / f"{name}.onnx", **options).read_bytes()
    return found
