"""The report's plots as inline SVG. Colours come from the page's style sheet, so they follow light and dark."""

import math
from collections.abc import Mapping, Sequence

from hydrajax.evaluation import markup

element = markup.element
ROW_WIDTH, ROW_HEIGHT, ROW_AIR = 240, 22, 14
PALETTE = 4
# What JSON calls a number: a step is an int, a loss a float.
Number = int | float
Curve = Sequence[Sequence[Number]]  # (step, value) each
Scale = tuple[Number, Number]  # the lowest and the highest value


def ticks(low: Number, high: Number, about: int = 4) -> list[float]:
    """Round numbers inside [low, high], roughly `about` of them."""
    if high <= low:
        return [float(low)]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def extent(values: Sequence[Number | None], *, include: Number | None = None) -> Scale:
    """The range of the values that are known, with some air; never empty."""
    known = [value for value in (*values, include) if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    air = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - air, high + air


def interval_row(
    value: Number, low: Number | None, high: Number | None, scale: Scale, *, line: Number, kind: str = ""
) -> markup.Markup:
    """One row of a forest plot: the value, its interval, and a line to compare with."""
    x, middle = _row_scaler(scale), ROW_HEIGHT / 2
    whisker = None
    if low is not None and high is not None:
        whisker = element("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="whisker")
    guide = element("line", x1=x(line), x2=x(line), y1=0, y2=ROW_HEIGHT, class_="guide")
    dot = element("circle", cx=x(value), cy=middle, r=4, class_="dot")
    return _row(guide, whisker, dot, kind=kind)


def interval_axis(scale: Scale, digits: int) -> markup.Markup:
    """The axis of a forest plot, for the head of its column."""
    x = _row_scaler(scale)
    return _row([element("text", _written(t, digits), x=x(t), y=15, class_="tick") for t in ticks(*scale)])


def bars(values: Sequence[Number], names: Sequence[str], label: str) -> markup.Markup:
    """Bars from zero, in the given order, coloured by their sign."""
    width, height, left, bottom = 960, 260, 52, 14
    scale = extent(values, include=0.0)
    y = _scaler(scale, height - bottom - 8, top=True)
    slot = (width - left) / max(1, len(values))
    thick = min(28.0, max(1.0, 0.72 * slot))
    drawn = []
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        middle = left + (i + 0.5) * slot
        top, foot = sorted((y(value), y(0.0)))
        sign = "gain" if value > 0 else "loss" if value < 0 else "level"
        tip = element("title", f"{name}: {value:+.3f}")
        # A user with hardly a difference, or none, is a user too: a sliver, on its side of the zero line or across it.
        if foot - top < 2.0:
            top = y(0.0) - {"gain": 2.0, "level": 1.5, "loss": 0.0}[sign]
            foot = top + (3.0 if sign == "level" else 2.0)
        place = {"x": _r(middle - thick / 2), "y": _r(top), "width": _r(thick), "height": _r(foot - top)}
        drawn.append(element("rect", tip, **place, class_=sign))
    zero = element("line", x1=left, x2=width, y1=y(0.0), y2=y(0.0), class_="zero")
    return _plot(width, height, label, _y_axis(scale, y, left, width), drawn, zero)


def lines(series: Mapping[str, Curve], label: str) -> markup.Markup:
    """Curves over steps, one a series, with a legend above."""
    width, height, left, bottom = 460, 240, 48, 26
    points = [point for curve in series.values() for point in curve]
    y_scale = extent([point[1] for point in points])
    first, last = min(point[0] for point in points), max(point[0] for point in points)
    x_inner = _scaler((first, last if last > first else first + 1), width - left - 12)
    y = _scaler(y_scale, height - bottom - 8, top=True)
    drawn = []
    for i, curve in enumerate(series.values()):
        places = [(_r(left + x_inner(step)), _r(y(value))) for step, value in curve]
        path = " ".join(f"{cx},{cy}" for cx, cy in places)
        drawn.append(element("polyline", points=path, class_=f"curve c{i % PALETTE}"))
        # A curve of one point would be invisible.
        drawn.append(element("circle", cx=places[-1][0], cy=places[-1][1], r=3, class_=f"end c{i % PALETTE}"))
    steps = [
        element("text", f"{t:g}", x=_r(left + x_inner(t)), y=height - 8, class_="tick")
        for t in ticks(first, last)
        if float(t).is_integer() or last - first < 4
    ]
    keys = [
        element("span", element("i", class_=f"swatch c{i % PALETTE}"), name, class_="key")
        for i, name in enumerate(series)
    ]
    plot = _plot(width, height, label, _y_axis(y_scale, y, left, width), drawn, steps)
    return markup.join([element("div", keys, class_="legend"), plot])


def _plot(width: int, height: int, label: str, *drawn: markup.Child) -> markup.Markup:
    return element("svg", drawn, viewBox=f"0 0 {width} {height}", class_="plot", role="img", aria_label=label)


def _row(*drawn: markup.Child, kind: str = "") -> markup.Markup:
    kinds = f"forest {kind}".strip()
    return element("svg", drawn, viewBox=f"0 0 {ROW_WIDTH} {ROW_HEIGHT}", class_=kinds, aria_hidden="true")


def _y_axis(scale: Scale, y, left: Number, width: Number) -> list[markup.Markup]:
    marks = ticks(*scale)
    # As many digits as tell neighbouring marks apart.
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    digits = max(0, min(6, math.ceil(-math.log10(step) - 1e-9))) + (1 if f"{step:.1e}".startswith("2.5") else 0)
    drawn = []
    for mark in marks:
        drawn.append(element("line", x1=left, x2=width, y1=y(mark), y2=y(mark), class_="grid"))
        drawn.append(element("text", _written(mark, digits), x=left - 8, y=_r(y(mark) + 4), class_="tick y"))
    return drawn


def _written(mark: Number, digits: int) -> str:
    return f"{mark:.{digits}f}".replace("-", "−")


def _row_scaler(scale: Scale):
    # Air at both ends for the labels of the axis.
    place = _scaler(scale, ROW_WIDTH - 2 * ROW_AIR)
    return lambda value: _r(ROW_AIR + place(value))


def _scaler(scale: Scale, length: Number, *, top: bool = False):
    low, high = scale
    span = (high - low) or 1.0

    def place(value: Number) -> float:
        share = (value - low) / span
        return _r(8 + length * (1 - share)) if top else _r(length * share)

    return place


def _r(value: Number) -> float:
    return round(value, 2)
