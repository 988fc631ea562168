"""The HTML page: self-contained, escaped, and complete."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from crisp_onnx.report.schema import Accuracy, Report

pytest.importorskip("matplotlib", reason="the page needs the extra [report]")

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect", "line"}


class Balanced(HTMLParser):
    """Fails on a closing tag that does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_loads_nothing_from_elsewhere(report: Report) -> None:
    from crisp_onnx.report.page import page

    text = page(report)
    assert not re.search(r"<(script|link|img|iframe)\b", text)
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert all("w3.org" in address or "purl.org" in address for address in addresses)


def test_tags_are_balanced_and_every_layer_is_named(report: Report) -> None:
    from crisp_onnx.report.page import page

    text = page(report)
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    for layer in report.layers:
        assert layer.name in text
    assert text.count("<svg") >= 2


def test_names_are_escaped(report: Report) -> None:
    from crisp_onnx.report.page import page

    evil = "<b onclick=alert(1)>&"
    named = report.model_copy(
        update={
            "layers": tuple(layer.model_copy(update={"name": evil}) for layer in report.layers),
            "classes": tuple(entry.model_copy(update={"name": evil}) for entry in report.classes),
        }
    )
    text = page(named)
    assert "<b onclick" not in text
    assert "&lt;b onclick" in text


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "\udce9", "\u202egpj.exe", "$\\foo$", "a\nb", "x" * 300])
def test_any_name_stands_on_the_page_as_printable_text(report: Report, name: str) -> None:
    from crisp_onnx.report.page import page

    named = report.model_copy(
        update={
            "layers": tuple(layer.model_copy(update={"name": name, "reason": name}) for layer in report.layers),
            "classes": tuple(entry.model_copy(update={"name": name}) for entry in report.classes),
            "source": report.source.model_copy(update={"path": name}),
            "notes": (name,),
        }
    )
    text = page(named)
    assert text.replace("\n", "").isprintable()
    text.encode()


def test_the_same_report_gives_the_same_page(report: Report) -> None:
    from crisp_onnx.report.page import page

    assert page(report) == page(report)


def test_a_report_without_accuracy_says_so_on_the_page(report: Report) -> None:
    from crisp_onnx.report.page import page

    unmeasured = report.model_copy(update={"accuracy": Accuracy(reason="no images were given"), "latency": None})
    assert "no images were given" in page(unmeasured)
