"""`Report`: everything a run says about itself, as `report.json` version `crisp-report/1` holds it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from crisp_onnx.errors import CrispError
from crisp_onnx.reading import shown
from crisp_onnx.report.schema.costs import Equivalence, FileSizes, Latency, Macs, Quantisation, Sparsity
from crisp_onnx.report.schema.layers import Channels, LayerEntry, Reordering
from crisp_onnx.report.schema.part import Count, Duration, Part
from crisp_onnx.report.schema.scores import Accuracy, ClassEntry, Segmentation

_NO_UNICODE = re.compile("[\ud800-\udfff]")  # bytes of file names as Python carries them
VERSION: Literal["crisp-report/1"] = "crisp-report/1"


class Declined(Part):
    """A node that a rewriting pass left as it was."""

    pass_name: str
    node: str
    reason: str


class Budget(Part):
    """A figure that the user asked for, and what was reached."""

    name: str
    asked: float
    reached: float
    met: bool


class Source(Part):
    """The model that was compressed; `sha256` is that of the file and its external data."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Report(Part):
    """One run of `compress`. Shares lie between 0 and 1; units stand in the names.

    `layers`: all that have a stored weight, so that their MACs and `macs.beside` add up to those of `macs`. `files`:
    names of what the run wrote, all in one folder.
    """

    model_config = ConfigDict(title=VERSION)

    version: Literal["crisp-report/1"] = Field(default=VERSION, alias="schema")
    source: Source
    classes: tuple[ClassEntry, ...]
    accuracy: Accuracy
    segmentation: Segmentation | None = None
    sparsity: Sparsity
    macs: Macs
    file: FileSizes
    equivalence: Equivalence
    latency: Latency | None = None
    reordering: Reordering | None = None
    quantisation: Quantisation | None = None
    channels: Channels | None = None
    timings_s: dict[str, Duration]
    peak_memory_bytes: Count
    layers: tuple[LayerEntry, ...]
    declined: tuple[Declined, ...] = ()
    budgets: tuple[Budget, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    seed: int
    files: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _macs_of_the_layers(self) -> Report:
        left = self.macs.beside if self.macs.beside_kept is None else self.macs.beside_kept
        for name, said, counts, beside in (
            ("dense", self.macs.dense, [layer.macs for layer in self.layers], self.macs.beside),
            ("kept", self.macs.kept, [layer.macs_executed for layer in self.layers], left),
        ):
            if said != beside + sum(counts):
                raise ValueError(
                    f"{name} MACs are {said}, but those of the layers add up to {sum(counts)}, and "
                    f"{beside} are beside them"
                )
        return self


def to_json(report: Report) -> str:
    """The report as an indented JSON document that ends in a newline."""
    return json_text(report.model_dump(mode="json", by_alias=True))


def json_text(document: Any) -> str:
    """Plain data as an indented JSON document in Unicode that ends in a newline, whatever is in its texts."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return _NO_UNICODE.sub(lambda found: shown(found[0]).replace("\\", r"\\"), text)


def from_json(text: str) -> Report:
    """Read a report back.

    Raises:
        CrispError: not JSON, another version, an unknown field or one that is missing.
    """
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise CrispError(
            f"This is not a {VERSION} report: {place}: {first['msg']}. Write it again with `crisp-onnx compress`."
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `report.json`, as `docs/report.schema.json` holds it."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """`json_schema()` as the text of the published file."""
    return json.dumps(json_schema(), indent=2) + "\n"
