"""The report survives JSON, its published schema is the code's, and contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from crisp_onnx.errors import CrispError
from crisp_onnx.report.schema import Accuracy, LayerEntry, Macs, Report, Score, from_json, schema_text, to_json

PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"


def test_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text() == schema_text(), "write it again: make docs/report.schema.json"


def test_report_survives_json(report: Report) -> None:
    assert from_json(to_json(report)) == report


def test_jsonschema_accepts_a_report(report: Report) -> None:
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(to_json(report))
    jsonschema.validate(document, schema)
    assert document["schema"] == "crisp-report/1"


def test_jsonschema_refuses_a_missing_and_an_unknown_field(report: Report) -> None:
    schema = json.loads(PUBLISHED.read_text())
    document: dict[str, Any] = json.loads(to_json(report))
    with pytest.raises(jsonschema.ValidationError, match="'speed' was unexpected"):
        jsonschema.validate({**document, "speed": 2}, schema)
    del document["macs"]
    with pytest.raises(jsonschema.ValidationError, match="'macs' is a required property"):
        jsonschema.validate(document, schema)


def test_accuracy_that_was_not_measured_is_null_with_a_reason(report: Report) -> None:
    unmeasured = Accuracy(reason="no images were given")
    document = json.loads(to_json(report.model_copy(update={"accuracy": unmeasured, "latency": None})))
    assert document["accuracy"]["dense"] == {"top1": None, "top1_restricted": None}
    assert document["accuracy"]["n"] == 0
    assert document["latency"] is None
    jsonschema.validate(document, json.loads(PUBLISHED.read_text()))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Accuracy, "needs a reason"),
        (lambda: Accuracy(n=3, reason="no images"), "must be null"),
        (lambda: Accuracy(n=3, source="evaluation images", dense=Score(top1=1.0)), "all four figures"),
        (lambda: Macs(dense=10, kept=5, kept_ratio=0.4, nonzero=5, nonzero_ratio=0.5), "kept / dense is 0.5"),
        (lambda: Macs(dense=10, kept=5, kept_ratio=0.5, nonzero=1, nonzero_ratio=0.5), "nonzero / dense is 0.1"),
        (lambda: Score(top1=1.2), "less than or equal to 1"),
        (lambda: Score(top1=float("nan")), "finite number"),
    ],
)
def test_contradictions_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build()


@pytest.mark.parametrize(("field", "said"), [("macs_executed", "kept MACs are"), ("macs", "dense MACs are")])
def test_macs_that_the_layers_do_not_add_up_to_are_refused(report: Report, field: str, said: str) -> None:
    document = json.loads(to_json(report))
    document["layers"][3][field] += 1
    with pytest.raises(CrispError, match=f"{said} .*those of the layers add up to"):
        from_json(json.dumps(document))


def test_a_sparse_layer_needs_its_pattern_and_a_dense_one_its_reason(report: Report) -> None:
    sparse = report.layers[1].model_dump()
    with pytest.raises(ValidationError, match="whole pattern"):
        LayerEntry(**{**sparse, "vector_rows": None})
    with pytest.raises(ValidationError, match="has a reason and no pattern"):
        LayerEntry(**{**sparse, "decision": "dense", "reason": "too small"})
    with pytest.raises(ValidationError, match="has a reason and no pattern"):
        LayerEntry(**{**report.layers[0].model_dump(), "reason": ""})


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "crisp-report/2"}', "[1]"])
def test_what_is_not_a_report_is_one_clear_error(text: str) -> None:
    with pytest.raises(CrispError, match=r"not a crisp-report/1 report: .*crisp-onnx compress"):
        from_json(text)


@pytest.mark.parametrize("name", ["caf\xe9 \udce9", "\ud800", '\x1b[31m "quoted" \\ \n'])
def test_any_name_survives_as_json_what_is_no_unicode_as_escapes(report: Report, name: str) -> None:
    text = to_json(report.model_copy(update={"notes": (name,)}))
    assert from_json(text).notes[0] == name.replace("\udce9", "\\xe9").replace("\ud800", "\\ud800")
    text.encode()


def test_macs_beside_the_layers_are_among_all(report: Report) -> None:
    document = json.loads(to_json(report))
    macs = document["macs"]
    for name in ("dense", "kept", "nonzero"):
        macs[name] += 1000
    macs |= {f"{name}_ratio": macs[name] / macs["dense"] for name in ("kept", "nonzero")}
    with pytest.raises(CrispError, match="those of the layers add up to"):
        from_json(json.dumps(document))
    macs["beside"] = 1000
    assert from_json(json.dumps(document)).macs.beside == 1000
