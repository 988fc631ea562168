"""`Recipe`: every option of a run. The command line, a YAML file and the API say the same thing with it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from crisp_onnx.errors import CrispError, nearest
from crisp_onnx.reading import read_yaml, yaml_text

RECOVERIES = (
    "fixed", "ramp", "straight-through", "sr-ste", "soft-shrink", "grow-and-prune", "cram", "nested",
)  # fmt: skip
NESTED = "nested"
GATES, SALIENCY = "gates", "saliency"
SALIENCIES = ("crisp", "fisher", "magnitude", "wanda", "act-l2", "firing", "random")
PATH_KEYS = ("model", "classes", "data", "eval_data", "labels", "bank", "output")
BUDGET_KEYS = ("sparsity", "macs", "latency_ms", "energy_mj", "speedup")
PORTABLE = "portable"
NAME_OR_FILE_KEYS = ("preprocess", "target")
DEFAULT_SPARSITY = 0.8
TIMED_KEYS = ("packed", "most_blocks")
"""What timing has chosen."""
ASIDE_KEYS = ("output", "eval_data")
"""Options that change nothing in the file that a run makes."""


class Recipe(BaseModel):
    """One run of `compress`. Unknown keys are errors; what is not given takes the default shown here."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    model: Path
    """The ONNX file."""
    classes: Path | tuple[str | int, ...]
    """A file with one class a line, or the classes themselves: output index, name or synset id."""
    data: Path | None = None
    """Images to learn from: folder, .npz or CIFAR archive. Without it, images are synthesised from the model."""
    eval_data: Path | None = None
    """Images to judge by; never used to choose anything."""
    labels: Path | None = None
    """A file with the names of the outputs: a name a line, or `index<TAB>wnid<TAB>names`."""
    labels_offset: int | None = None
    """The output that the first row of `labels` names: 1 where output 0 is background. By default there must be as many
    rows as outputs."""
    class_order: Literal["lexical", "natural"] | None = None
    """The order in which class folders number the outputs: 1, 10, 2 or 1, 2, 10. By default the untouched model's own
    answers decide."""
    task: Literal["classification", "segmentation"] = "classification"
    """What the model does: one class an image, or one a pixel. For `segmentation`, data are folders with `images` and
    `labels` (PNG files of the same stems, whose pixels are output indices), or .npz files with y of (n, h, w); pixels
    labelled 255 and those of other classes are neither learnt nor judged."""
    output_name: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The output that scores the classes, where the file has several. Of several names, the first is that output; what
    the untouched model answers in the others counts too, in saliency and in training."""
    preprocess: str | None = None
    """Preset name, YAML file, `preprocessor_config.json`, timm's `config.json`, or `mean=R/G/B,std=R/G/B,size=N`."""
    method: Literal["hybrid", "channels", "channels+hybrid"] = "hybrid"
    """`hybrid`: zeros in a pattern, packed. `channels`: fewer channels, an ordinary network that is smaller.
    `channels+hybrid`: first channels, then zeros."""
    round_channels: Annotated[int, Field(ge=1)] = 8
    """What the numbers of channels that are left are multiples of, for the hardware's lanes (method `channels`)."""
    widths: Literal["gates", "saliency"] | None = None
    """What finds the channels that go (methods with channels): `saliency` once, before the network trains, or `gates`
    that open and shut while it does. By default `saliency`."""
    pattern: str = "2:4"
    """N:M: of every M neighbours along the input channels N are kept. A hardware target may set another default."""
    block: Annotated[int, Field(ge=1)] = 16
    """Side of the square blocks, in weights; a multiple of M."""
    vector_rows: Annotated[int, Field(ge=1)] = 8
    """Neighbouring rows (output channels) that share one N:M choice; divides `block`."""
    sparsity: float | Annotated[tuple[float, ...], Field(min_length=2)] | None = None
    """Zeros over all weights of the layers that become sparse; 0.8 when no budget is given. Several, ascending, are
    those of as many models from one training, with `recovery: nested`; each gets a folder of its own in `output`."""
    macs: float | None = None
    """MACs executed, over those of the whole dense model: the zeros of hybrid operators are skipped. Of `channels`, 0.5
    when no budget is given; with zeros behind them, each takes the same share, but zeros at least what N:M does."""
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Estimated milliseconds of one inference on the hardware target."""
    energy_mj: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Estimated millijoules of one inference on the hardware target."""
    speedup: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """How many times as fast as its source the model is to be on this host, measured at the end, one thread, one image;
    met within 5 %."""
    saliency: str = "crisp"
    """What ranks the weights: crisp, fisher, magnitude, wanda, act-l2, firing or random."""
    bank: Path | None = None
    """Sums of every class, made with `crisp-onnx saliency`, from which saliency is taken without a backward pass."""
    reorder: bool = True
    """Put channels into an order under which the pattern keeps more saliency, where the model's answers allow it."""
    reconstruct: Literal["none", "least-squares"] = "least-squares"
    """What becomes of the weights that are left, before any training: `least-squares` re-fits each layer, on the user's
    images and without labels, to what the dense network answers; `none` leaves them as they were."""
    masks: Literal["saliency", "obs", "alps"] = "alps"
    """What chooses the masks of a layer once the number of its blocks is known, where weights are re-fitted: `saliency`
    alone; `obs` or `alps`, by what the layer can still answer after the fit."""
    allocation: Literal["error", "saliency", "sensitivity", "search"] = "error"
    """How layers share the budget: by the `error` that each would make after the fit, measured; by `saliency`; by
    saliency and how much the loss of held-out images rises with it in each layer (`sensitivity`); or as a `search` over
    32 plans finds best on these images."""
    recovery: str = "fixed"
    """How masks and training go together: `fixed` chooses the masks once before it, `ramp` prunes more and more while
    training and chooses them anew. `straight-through`, `sr-ste`, `soft-shrink`, `grow-and-prune` and `cram` are others'
    ways, to compare with (docs/recovery.md). `nested` trains for several sparsities at once."""
    first_finetune: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Passes of fine-tuning of the dense network before anything is pruned; it is the teacher then."""
    epochs: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Passes over the images in recovery; by default 20 with real images and 0 without."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End training after so many epochs in which held-out images were not answered better, at the best weights."""
    head: Literal["keep", "slice"] = "keep"
    """`keep` all outputs of the model, or `slice` the classifier to those of the classes."""
    keep_dense: tuple[str, ...] = ()
    """Regular expressions: layers whose node or weight name matches stay dense."""
    emit: Literal["hybrid", "dense"] = "hybrid"
    """`hybrid`: packed operators. `dense`: ordinary operators with zeros in place."""
    precision: Literal["fp32", "int8"] = "fp32"
    """`int8`: weights and activations become bytes, calibrated on the images; a layer that loses accuracy so stays in
    float32."""
    one_file: bool = False
    """Keep the weights inside model.onnx; otherwise those of a model over 4 MiB stand in a file beside it."""
    target: str | None = None
    """A hardware target (name, or YAML file), whose rewarded pattern is taken where none is given; `portable`: every
    planned layer is packed. By default this host, on which each layer is timed first: one that would not be faster
    sparse stays dense."""
    packed: tuple[str, ...] | None = None
    """Layers that may become sparse, by name, where there is no `target`: none is timed then. A run writes here what
    its timing chose, so that its recipe.yaml gives the same file again, on any machine."""
    most_blocks: dict[str, Annotated[int, Field(ge=1)]] = {}
    """How many blocks of every block row a layer may keep, by name; written beside `packed`, for layers that are faster
    sparse only up to so many."""
    device: str = "cpu"
    """Where recovery runs: a device of torch, cpu or cuda."""
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    """Seed of everything random; with the same number of threads it gives the same file again."""
    output: Path | None = None
    """Folder for model.onnx, report.json and recipe.yaml; by default `<model>-crisp` in the current folder."""

    @field_validator("target", mode="before")
    @classmethod
    def _path_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("classes", mode="before")
    @classmethod
    def _words_or_indices(cls, value: object) -> object:
        strange = [one for one in value if isinstance(one, (bool, float))] if isinstance(value, (list, tuple)) else []
        if strange:
            raise ValueError(f"{strange[0]!r} is neither an output index nor a name; write names in quotes")
        return value

    @field_validator("saliency")
    @classmethod
    def _known_saliency(cls, value: str) -> str:
        if value not in SALIENCIES:
            raise ValueError(f"{value!r} is no saliency.{nearest(value, SALIENCIES)} Known: {', '.join(SALIENCIES)}")
        return value

    @field_validator("recovery")
    @classmethod
    def _known_recovery(cls, value: str) -> str:
        if value not in RECOVERIES:
            raise ValueError(f"{value!r} is no recovery.{nearest(value, RECOVERIES)} Known: {', '.join(RECOVERIES)}")
        return value

    @field_validator("sparsity", "macs")
    @classmethod
    def _share(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        shares = value if isinstance(value, tuple) else () if value is None else (value,)
        for share in shares:
            if not 0 < share < 1:
                raise ValueError(f"{share:g} is out of range; use a share between 0 and 1, for example 0.8")
        if list(shares) != sorted(set(shares)):
            raise ValueError("several sparsities are to ascend, for example 0.75,0.875")
        return value

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The several sparsities of one training; none where there is one budget."""
        return self.sparsity if isinstance(self.sparsity, tuple) else ()

    @property
    def times_layers(self) -> bool:
        """Whether this host decides which layers are packed, by timing them unless `packed` says which."""
        return self.target is None and self.emit == "hybrid" and self.method != "channels"

    @property
    def narrows(self) -> bool:
        """Whether channels are removed."""
        return self.method != "hybrid"

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.output or Path(f"{self.model.stem}-crisp")

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the files of each model go: one, or for several sparsities a folder in it for each."""
        return tuple(self.folder / f"{share:g}" for share in self.sparsities) or (self.folder,)


def options_text() -> str:
    """Every option of a recipe with its default and meaning, a paragraph each."""
    wrapper = textwrap.TextWrapper(width=110, initial_indent="    ", subsequent_indent="        ")
    paragraphs = []
    for name, field in Recipe.model_fields.items():
        default = "required" if field.is_required() else repr(field.default)
        paragraphs.append(wrapper.fill(f"{name} ({default}): {field.description}"))
    return "\n".join(paragraphs)


def make_recipe(options: dict[str, Any], *, where: str = "options") -> Recipe:
    """Build a recipe from plain values.

    Raises:
        CrispError: an unknown key, with the nearest known one; or a value that does not fit, with its key.
    """
    try:
        recipe = Recipe.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            raise CrispError(f"Unknown key {key!r} in {where}.{nearest(key, Recipe.model_fields)}") from None
        if first["type"] == "missing":
            raise CrispError(f"{key!r} is missing in {where}. Give it on the command line or in the recipe.") from None
        message = _out_of_range(first) or first["msg"].removeprefix("Value error, ")
        raise CrispError(f"{key!r} in {where}: {message}.") from None
    budgets = [f"'{key}'" for key in BUDGET_KEYS if getattr(recipe, key) is not None]
    if len(budgets) > 1:
        raise CrispError(f"{where} give {' and '.join(budgets)}; one budget decides. Keep one of them.")
    return recipe


WHY = MappingProxyType({"speedup": " (1 is as fast as the source)", "epochs": " (0 is no training)"})
RANGES = MappingProxyType(
    {
        "greater_than": "more than {gt:g}",
        "greater_than_equal": "{ge:g} or more",
        "less_than": "less than {lt:g}",
        "less_than_equal": "{le:g} or less",
    }
)
"""What a number is to be, by pydantic's kind of error."""


def _out_of_range(error: Mapping[str, Any]) -> str:
    """What is wrong with a number and what to give instead; empty where something else is wrong."""
    wanted = RANGES.get(error["type"])
    if wanted is None:
        return ""
    reason = WHY.get(str(error["loc"][0]), "") if error["loc"] else ""
    return f"{error['input']} is out of range{reason}; use {wanted.format(**error.get('ctx', {}))}"


def read_recipe(path: Path) -> dict[str, Any]:
    """The options in a YAML recipe; relative paths in it are relative to its folder.

    Raises:
        CrispError: no such file, not a YAML mapping, or an unknown key.
    """
    options = read_yaml(path, "recipe", "sparsity: 0.8")
    for key in options:
        if key not in Recipe.model_fields:
            raise CrispError(f"Unknown key {key!r} in {path}.{nearest(str(key), Recipe.model_fields)}")
    for key in PATH_KEYS:
        if isinstance(options.get(key), str):
            options[key] = path.parent / options[key]
    for key in NAME_OR_FILE_KEYS:
        if names_file(options.get(key)):
            options[key] = str(path.parent / options[key])
    return options


def merged(written: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a recipe file with those of the command line over them.

    One budget decides, the command line's before the file's. What timing chose for the file's own run goes
    where an option differs from it: other weights may be faster in other layers.
    """
    if given.keys() & set(BUDGET_KEYS):
        written = {key: value for key, value in written.items() if key not in BUDGET_KEYS or key in given}
    other = any(_told(written.get(key)) != _told(value) for key, value in given.items() if key not in ASIDE_KEYS)
    return {key: value for key, value in written.items() if not (other and key in TIMED_KEYS)} | given


def _told(value: Any) -> Any:
    """A value as it can be compared with one that was said in another place."""
    if isinstance(value, Path):
        return value.resolve()
    return list(value) if isinstance(value, tuple) else value


def options_without_paths(recipe: Recipe) -> dict[str, Any]:
    """Plain values for the file's metadata, without what differs between machines: paths and times.

    The same run must give the same file.
    """
    files = {key for key in NAME_OR_FILE_KEYS if names_file(getattr(recipe, key))}
    return recipe.model_dump(mode="json", exclude={*PATH_KEYS, *files, "most_blocks"})


def input_files(recipe: Recipe) -> tuple[Path, ...]:
    """Every path that the recipe names to be read."""
    paths = [getattr(recipe, key) for key in PATH_KEYS if key != "output"]
    names = [getattr(recipe, key) for key in NAME_OR_FILE_KEYS]
    return (*(path for path in paths if isinstance(path, Path)), *(Path(name) for name in names if names_file(name)))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML that repeats the run, to stand in the recipe's output folder.

    Paths are relative to that folder, so that all may be moved together, and defaults are written out. The folder
    itself is left out: a second run shall not replace the recipe that it follows.
    """
    options = recipe.model_dump(mode="json", exclude={"output"})
    for key in PATH_KEYS:
        value = getattr(recipe, key)
        if key in options and isinstance(value, Path):
            options[key] = _relative(value, recipe.folder)
    for key in NAME_OR_FILE_KEYS:
        if names_file(options[key]):
            options[key] = _relative(Path(options[key]), recipe.folder)
    return yaml_text(options)


def _relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, with forward slashes; absolute where no way leads there (another drive).

    A link stays one: what lies beside it, and what its name says, belong to it and not to the file behind.
    """
    place = path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
    try:
        return Path(os.path.relpath(place, folder.resolve())).as_posix()
    except ValueError:
        return place.as_posix()


def names_file(text: object) -> bool:
    """Whether the text of an option that takes a name or a file is the path of one."""
    return isinstance(text, str) and Path(text).suffix.lower() in (".yaml", ".yml", ".json")
