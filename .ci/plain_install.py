"""Install the wheel without extras into a fresh environment and compress a model there, as a new user would.

Usage: python .ci/plain_install.py FOLDER

The packages that the wheel requires are linked from the environment that runs this script, and no others: what is
imported without being required is missing there. `pip check` proves that nothing required is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from small_models import coloured_images, residual_classifier  # noqa: E402

PACKAGE = "crisp-onnx"
WRITTEN = {"model.onnx", "report.json", "recipe.yaml"}


def main() -> None:
    place = Path(sys.argv[1]).absolute()
    shutil.rmtree(place, ignore_errors=True)
    wheels, environment = place / "wheel", place / "venv"
    pip("wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(wheels))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([str(python), "-c", asked], text=True).strip())
    for name in required(PACKAGE):
        link(name, packages)
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(next(wheels.glob("*.whl"))))
    pip("--python", str(python), "check")
    compress(python.with_name("crisp-onnx"), place)


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words], check=True)


def required(package: str) -> set[str]:
    """The distributions that `package` requires here without extras, and what those require."""
    names: set[str] = set()
    left = [package]
    while left:
        for line in metadata.requires(left.pop()) or []:
            wanted = Requirement(line)
            name = wanted.name.lower().replace("_", "-")
            if name not in names and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                names.add(name)
                left.append(name)
    return names


def link(name: str, packages: Path) -> None:
    """Every file of an installed distribution into another site-packages."""
    distribution = metadata.distribution(name)
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:  # scripts and what Python compiles itself
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(str(distribution.locate_file(file)))
        try:
            os.link(source, target)
        except OSError:  # another disk
            shutil.copy2(source, target)


def compress(command: Path, place: Path) -> None:
    """One run there: it ends well, writes its files, and says that the page was left out and why."""
    model = residual_classifier(place / "small.onnx")
    pairs = coloured_images(12)
    np.savez(place / "data.npz", x=np.stack([image for image, _ in pairs]), y=np.array([label for _, label in pairs]))
    (place / "cls.txt").write_text("0\n2\n4\n")
    words = [*("--classes", "cls.txt", "--data", "data.npz", "--preprocess", "unit", "--epochs", "1")]
    words += ["--sparsity", "0.75", "-o", "out"]
    ran = subprocess.run(
        [str(command), "compress", model.name, *words], cwd=place, capture_output=True, text=True, check=False
    )
    print(ran.stdout, ran.stderr, sep="\n")
    written = {file.name for file in (place / "out").iterdir()}
    if ran.returncode or written != WRITTEN or "matplotlib" not in ran.stdout:
        sys.exit(
            f"compress ended with {ran.returncode} and wrote {sorted(written)}; the note on matplotlib must be there"
        )


if __name__ == "__main__":
    main()
