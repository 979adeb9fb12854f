import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.evaluation.report import plots

NUMBERS = st.floats(-1e3, 1e3)


@given(NUMBERS, st.floats(1e-3, 1e3))
def test_ticks_are_few_round_and_inside(low, length):
    marks = plots.ticks(low, low + length)
    assert len(marks) <= 6
    assert all(low - 1e-6 * length <= mark <= low + length * (1 + 1e-6) for mark in marks)
    assert marks == sorted(set(marks))


@given(st.lists(st.none() | NUMBERS), st.none() | NUMBERS)
def test_an_extent_holds_its_values_and_is_never_empty(values, include):
    low, high = plots.extent(values, include=include)
    assert low < high
    assert all(low <= value <= high for value in (*values, include) if value is not None)


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1.0, 0.25, 0.0, -0.5], [-1.0]])
def test_bars_rise_above_zero_for_gains_and_hang_below_for_losses(values):
    svg = ElementTree.fromstring(plots.bars(values, [f"u{i} & <co>" for i in range(len(values))], "label"))
    zero = float(next(line for line in svg.iter("line") if line.get("class") == "zero").get("y1"))
    rects = list(svg.iter("rect"))
    assert len(rects) == len(values)
    for rect, value in zip(rects, values, strict=True):
        middle = float(rect.get("y")) + float(rect.get("height")) / 2
        assert rect.get("class") == ("gain" if value > 0 else "loss" if value < 0 else "level")
        assert (middle < zero) if value > 0 else (middle > zero) if value < 0 else abs(middle - zero) < 0.02


def test_an_interval_stands_left_to_right_on_its_scale():
    svg = ElementTree.fromstring(plots.interval_row(0.5, 0.25, 0.75, (0.0, 1.0), line=0.5))
    guide, whisker = svg.findall("line")
    assert float(whisker.get("x1")) < float(svg.find("circle").get("cx")) < float(whisker.get("x2"))
    assert guide.get("x1") == svg.find("circle").get("cx")


def test_an_unknown_interval_draws_the_value_alone():
    svg = ElementTree.fromstring(plots.interval_row(0.5, None, None, (0.0, 1.0), line=0.5))
    assert [line.get("class") for line in svg.findall("line")] == ["guide"]


@pytest.mark.parametrize("series", [{"loss": [[0, 1.0]]}, {"a": [[1, 0.5], [2, 0.25]], "b": [[1, 3], [9, 1.5]]}])
def test_curves_stay_inside_their_plot(series):
    made = plots.lines(series, "label")
    assert "nan" not in made
    svg = ElementTree.fromstring(made[made.index("<svg") :])
    width, height = map(float, svg.get("viewBox").split()[2:])
    points = [tuple(map(float, p.split(","))) for line in svg.iter("polyline") for p in line.get("points").split()]
    assert len(points) == sum(map(len, series.values()))
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert all(name in re.sub("<[^>]*>", " ", made) for name in series)
