"""The tables say what the report says: plain outside a terminal, whole rows, nothing left out."""

from __future__ import annotations

import io

import pytest

from crisp_onnx.report.schema import Accuracy, Budget, Declined, LayerFitEntry, Report
from crisp_onnx.report.table import before_after, layer_table, notes, rows_table, show, summary


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _plain(*parts: object) -> str:
    stream = io.StringIO()
    show(*parts, file=stream)  # type: ignore[arg-type]
    return stream.getvalue()


def _row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_before_after_holds_bytes_macs_accuracy_and_latency(report: Report) -> None:
    text = _plain(before_after(report))
    assert _row(text, "file").split("  ")[-1] == "5.04x smaller"
    assert "11.9 M" in _row(text, "MACs")
    accuracy = _row(text, "accuracy, 3 classes")
    assert "99.1 % (94.9-99.8)" in accuracy
    assert "96.3 % (90.9-98.6)" in accuracy
    assert "-2.8 points" in accuracy
    assert "1.21 ms (1.18-1.34)" in _row(text, "latency, 1 thread")


def test_before_after_fits_a_narrow_terminal(report: Report) -> None:
    assert max(map(len, _plain(before_after(report)).splitlines())) <= 80


def test_a_figure_that_grew_is_not_called_smaller(report: Report) -> None:
    grown = report.model_copy(update={"file": report.file.model_copy(update={"bytes": 704_224})})
    assert "2.00x larger" in _plain(before_after(grown))


@pytest.mark.parametrize(
    ("ratio", "p90", "said"),
    [
        (1.66, 1.8, "1.66x as fast"),
        (0.98, 0.99, "0.98x as fast"),
        (0.84, 0.9, "slower: 0.84x as fast"),
        (0.84, 1.1, "0.84x as fast"),
    ],
)
def test_slower_is_said_unless_noise_explains_it(report: Report, ratio: float, p90: float, said: str) -> None:
    assert report.latency is not None
    latency = report.latency.model_copy(update={"ratio_median": ratio, "ratio_p90": p90})
    row = _row(_plain(before_after(report.model_copy(update={"latency": latency}))), "latency")
    assert row.split("  ")[-1] == said


def test_macs_of_zeros_in_place_are_a_row_of_their_own(report: Report) -> None:
    assert "zeros left out" not in _plain(before_after(report))
    macs = report.macs.model_copy(update={"kept": report.macs.dense, "kept_ratio": 1.0})
    text = _plain(before_after(report.model_copy(update={"macs": macs})))
    assert _row(text, "MACs per image").endswith("100 % executed")
    assert "11.9 M" in _row(text, "MACs, zeros left out")
    assert max(map(len, text.splitlines())) <= 80


def test_what_was_not_measured_says_so_with_its_reason(report: Report) -> None:
    accuracy = Accuracy(reason="the images were synthesised from the model")
    text = _plain(summary(report.model_copy(update={"accuracy": accuracy, "latency": None})))
    assert _row(text, "accuracy, 3 classes").count("not measured") == 2
    assert _row(text, "latency").count("not measured") == 2
    assert "- Accuracy was not measured: the images were synthesised from the model." in text


def test_every_layer_is_a_row_with_its_pattern_or_its_reason(report: Report) -> None:
    text = _plain(layer_table(report))
    for layer in report.layers:
        row = _row(text, layer.name)
        assert (layer.reason if layer.decision == "dense" else "2:4 B16 V8") in row


def test_notes_name_missed_budgets_noise_and_what_was_declined(report: Report) -> None:
    declined = tuple(Declined(pass_name="fuse_relu", node=f"/n{i}", reason="two readers") for i in range(5))
    assert report.latency is not None
    told = report.model_copy(
        update={
            "declined": (*report.declined, *declined),
            "budgets": (Budget(name="macs", asked=0.2, reached=0.25, met=False),),
            "latency": report.latency.model_copy(update={"noisy": True, "note": "The machine was too noisy"}),
        }
    )
    text = _plain(notes(told))
    assert "- Budget missed: macs was to be 0.2, 0.25 was reached." in text
    assert "- fold_batchnorm left /bn7 unchanged: its input is used by two nodes." in text
    assert "- fuse_relu left 5 nodes (/n0, /n1, ...) unchanged: two readers." in text
    assert "- The machine was too noisy." in text


def test_outside_a_terminal_long_rows_stay_whole_and_without_escapes() -> None:
    text = _plain(rows_table("Checks", ["what", "found"], [("x" * 300, 1), ("[bold]y", None)], right=[1]))
    assert "\x1b" not in text
    assert "x" * 300 in text
    assert "[bold]y" in text, "a cell is text, never markup"


def test_on_a_terminal_rows_are_folded_to_its_width() -> None:
    stream = Terminal()
    show(rows_table("", ["what"], [("word " * 60,)]), file=stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 4
    assert stream.getvalue().count("word") == 60


def test_one_line_says_what_least_squares_took_from_the_median_layer(report: Report) -> None:
    assert "Least squares" not in _plain(notes(report))
    sparse = [number for number, layer in enumerate(report.layers) if layer.decision == "sparse"]
    layers = list(report.layers)
    for place, number in enumerate(sparse):
        fit = LayerFitEntry(error_before=0.4 + 0.1 * place, error_after=0.1 * place, ridge=0.01)
        layers[number] = layers[number].model_copy(update={"fit": fit})
    text = _plain(notes(report.model_copy(update={"layers": tuple(layers)})))
    assert "from 65.0 % to 25.0 % of their spread: the median of 6 layers" in text
