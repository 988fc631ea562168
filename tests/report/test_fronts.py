"""Fronts of a sweep: what no other point beats, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crisp_onnx.report.exploration import COSTS, Choice, Exploration, Point, exploration_view, front
from crisp_onnx.report.front_plot import percent, write_front_plot
from crisp_onnx.report.views import document


def point(accuracy: float, macs: float, size: float = 0.5, time: float | None = 0.5, epochs: int = 0) -> Point:
    choice = Choice(0.75, "2:4", 16, 8)
    return Point(choice, epochs, accuracy, 0.9, 100, macs, int(1e6 * size), size, 1.0, time)


SHARES = st.integers(0, 6).map(lambda n: n / 6)


@given(st.lists(st.builds(point, SHARES, SHARES, SHARES, st.none() | SHARES), max_size=12))
def test_a_front_holds_what_nothing_beats_and_something_as_good_as_all_else(points: list[Point]) -> None:
    for name, cost in COSTS.items():
        priced = [(cost(p), p.accuracy) for p in points if cost(p) is not None]
        found = [(cost(p), p.accuracy) for p in front(points, name)]

        def beats(one: tuple, other: tuple) -> bool:  # type: ignore[type-arg]
            return one[0] <= other[0] and one[1] >= other[1] and one != other

        assert set(found) == {one for one in priced if not any(beats(other, one) for other in priced)}
        assert found == sorted(set(found))


def test_a_point_that_leads_in_one_cost_alone_is_among_the_best() -> None:
    small, quick = point(0.8, 0.3, size=0.1), point(0.8, 0.4, size=0.4, time=0.1)
    beaten = point(0.7, 0.5, size=0.5, time=0.6)
    assert Exploration(Path("m.onnx"), (quick, beaten, small), ()).best == (small, quick)


def test_the_table_and_the_document_say_the_same(tmp_path: Path) -> None:
    found = Exploration(Path("m.onnx"), (point(0.8, 0.3), point(0.9, 0.5, epochs=3, time=None)), ("left out: x",))
    table, *sentences = exploration_view(found)
    assert table.row_count == 2  # type: ignore[union-attr]
    assert [str(sentence) for sentence in sentences] == ["Untouched model: 90.0 % (82.6-94.5).", "left out: x"]
    said = json.loads(document(found))
    assert [one["accuracy"] for one in said["best"]] == [0.8, 0.9]
    write_front_plot(found, tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert [drawn.count(f"{name}, of the dense model") for name in COSTS] == [1, 1, 1]


@pytest.mark.parametrize(("low", "high"), [(0.275, 0.38), (0.978, 1.0), (0.0, 1.0), (0.3, 0.3004)])
def test_no_tick_of_the_plot_says_another_share_than_where_it_stands(low: float, high: float) -> None:
    for tick in MaxNLocator(5).tick_values(low, high):
        assert float(percent(tick).removesuffix("%")) == pytest.approx(100 * tick, abs=1e-9)


def test_the_legend_lies_outside_of_the_panels(tmp_path: Path, drawn: list[Figure]) -> None:
    found = Exploration(Path("m.onnx"), (point(0.98, 0.275), point(0.999, 0.325, epochs=3)), ())
    write_front_plot(found, tmp_path / "front.svg")
    (figure,) = drawn
    figure.canvas.draw()
    (legend,) = figure.legends
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
