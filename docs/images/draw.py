"""The pictures of the documentation, as SVG: `make pictures`. Plain Python; the numbers are those of the pages' tables.

A picture has a panel of its own behind it and follows the reader's light or dark scheme, so that it can be read on any
page. It is drawn for a narrow screen: at 360 pixels its letters are still legible.
"""

import html
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

IMAGES = pathlib.Path(__file__).parent
WIDTH = 560
STYLE = """
  .panel { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 12.5px; fill: #57606a }
  .bold { font-weight: 600 }
  .box { fill: #f3f6fb; stroke: #8c9bb0 }
  .learned { fill: #e4efff; stroke: #2f6fd0; stroke-width: 1.6 }
  .line { stroke: #57606a; stroke-width: 1.5; fill: none }
  .head { fill: #57606a }
  .dashed { stroke: #2f6fd0; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none }
  .dashed-head { fill: #2f6fd0 }
  .grid { stroke: #d8dee4; stroke-width: 1 }
  .zero { stroke: #57606a; stroke-width: 1 }
  .a { stroke: #2f6fd0; fill: #2f6fd0 }
  .b { stroke: #c2571a; fill: #c2571a }
  .c { stroke: #2a8a4a; fill: #2a8a4a }
  .d { stroke: #7a7f87; fill: #7a7f87 }
  .curve { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .panel { fill: #161b22; stroke: #3d444d }
    text { fill: #e6edf3 }
    .small { fill: #9da7b3 }
    .box { fill: #222a35; stroke: #6b7788 }
    .learned { fill: #1b3050; stroke: #6ea8fe }
    .line, .zero { stroke: #9da7b3 }
    .head { fill: #9da7b3 }
    .dashed { stroke: #6ea8fe }
    .dashed-head { fill: #6ea8fe }
    .grid { stroke: #30363d }
    .a { stroke: #6ea8fe; fill: #6ea8fe }
    .b { stroke: #f0a56b; fill: #f0a56b }
    .c { stroke: #6fce8f; fill: #6fce8f }
    .d { stroke: #a0a6ae; fill: #a0a6ae }
    .curve { fill: none }
  }
"""


class Value(NamedTuple):
    """A measured value; the ends of its interval are None where it has none."""

    value: float
    low: float | None
    high: float | None


def pictures() -> dict[str, str]:
    """Every picture by its file's name."""
    return {
        "way_of_the_data.svg": way_of_the_data(),
        "lamp.svg": lamp(),
        "strategies.svg": strategies(),
        "records.svg": records(),
        "step.svg": step(),
    }


def way_of_the_data() -> str:
    """From a question to its answer, and where the two scores come from."""
    wide, high, across, down, left, top = 140, 66, 48, 46, 22, 24
    places = {
        "question": (0, 0, "question", "what is asked now", "box"),
        "retriever": (1, 0, "retriever", "N records", "box"),
        "reranker": (2, 0, "reranker", "k of these records", "learned"),
        "profile": (0, 1, "profile", "past records", "box"),
        "scorers": (1, 1, "base + heads", "one head a user", "learned"),
        "prompt": (2, 1, "prompt strategy", "records and question", "box"),
        "answer": (0, 2, "answer", "", "box"),
        "adapter": (1, 2, "adapter", "takes one of these", "learned"),
        "llm": (2, 2, "black-box LLM", "b candidates", "box"),
    }
    corner = {name: (left + c * (wide + across), top + r * (high + down)) for name, (c, r, *_) in places.items()}

    def right(name, part=0.5):
        return corner[name][0] + wide, corner[name][1] + high * part

    def west(name, part=0.5):
        return corner[name][0], corner[name][1] + high * part

    def above(name, part=0.5):
        return corner[name][0] + wide * part, corner[name][1]

    def below(name, part=0.5):
        return corner[name][0] + wide * part, corner[name][1] + high

    parts = []
    for name, (_, _, title, note, kind) in places.items():
        x, y = corner[name]
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{wide}" height="{high}" rx="8"/>')
        parts.append(_text(x + wide / 2, y + (29 if note else 38), title, "bold", anchor="middle", size=14))
        parts.append(_text(x + wide / 2, y + 48, note, "small", anchor="middle") if note else "")
    parts += [
        _arrow(right("question"), west("retriever")),
        _arrow(right("retriever"), west("reranker")),
        _arrow(below("reranker"), above("prompt")),
        _arrow(below("prompt"), above("llm")),
        _arrow(west("llm"), right("adapter")),
        _arrow(west("adapter"), right("answer")),
        _arrow(right("profile", 0.15), below("retriever", 0.15)),
        _arrow(right("profile"), west("scorers"), kind="dashed"),
        _arrow(right("scorers", 0.2), below("reranker", 0.15), kind="dashed"),
        _arrow(below("scorers"), above("adapter"), kind="dashed"),
    ]
    bottom = top + 3 * high + 2 * down
    parts.append(
        _text(WIDTH / 2, bottom + 26, "blue: learned; the LLM is only asked, never changed", "small", "middle")
    )
    title = "The way of the data: question, retriever, reranker, prompt strategy, black-box LLM, adapter, answer"
    return _svg(title, parts, bottom + 42)


LAMP_ROWS = (
    ("zero_shot", "d"), ("rag", "d"), ("pag", "d"),
    ("hydra_adapter", "a"), ("hydra", "a"), ("pooled_head", "a"), ("shuffled_heads", "a"),
    ("random", "d"), ("oracle", "d"),
    ("most_frequent_label", "b"), ("nearest_record", "b"), ("factorised_classifier", "b"), ("query_text", "b"),
)  # fmt: skip


def lamp() -> str:
    """Methods on six tasks with their intervals."""
    head, rows = table("lamp.md", "method")
    found = {row[0]: [number(cell) for cell in row[1:]] for row in rows}
    names = [(name, kind) for name, kind in LAMP_ROWS if name in found]
    panels = []
    for column, title in enumerate(head[1:]):
        limits = (0.0, 4.0) if "MAE" in title else (0.0, 1.0) if "accuracy" in title else (0.0, 0.6)
        panels.append((title, limits, [found[name][column] for name, _ in names]))
    note = "grey: prompts, bounds; blue: HYDRA and its controls; orange: without an LLM"
    return _forest("Methods on six LaMP tasks with 95 % intervals", names, panels, note)


def strategies() -> str:
    """What the user's own records are worth beside somebody else's, by strategy and task."""
    head, rows = table("prompts.md", "strategy", column="own")
    names = [(row[0].strip("`"), "a") for row in rows if row[2].strip()]
    panels = []
    for column in (2, 4, 6, 8):
        title = head[column - 1]
        limits = (-0.3, 0.5) if "accuracy" in title else (-0.2, 0.2)
        panels.append((title, limits, [number(row[column]) for row in rows if row[2].strip()]))
    note = "own records minus another user's; right of the line: the user's own help more"
    return _forest("Own records minus another user's, by prompt strategy", names, panels, note)


def records() -> str:
    """What heads gain with the records that teach them."""
    head, rows = table("choosing-a-family.md", "accuracy gained")
    x = [float(cell) for cell in head[1:]]
    names = zip(rows, "ab", strict=True)
    curves = [(row[0].strip("`"), kind, [number(cell).value for cell in row[1:]]) for row, kind in names]
    marks = [(v, f"{v:g}") for v in x]
    title = "Accuracy gained over the shared head (LaMP_2M, all labels)"
    return _plot(title, curves, [math.sqrt(v) for v in x], [(math.sqrt(v), label) for v, label in marks],
                 (-0.05, 0.30), (0.0, 0.1, 0.2, 0.3), "records that teach the user's head")  # fmt: skip


def step() -> str:
    """What a step costs by the size of the bank."""
    _, rows = table("performance.md", "head", column="users in the bank")
    curves = []
    for row, kind in zip(rows, "abcd", strict=True):
        pairs = [pair.split(":") for pair in re.split(r",\s+", row[1])]
        points = [(math.log10(float(users.replace(",", ""))), math.log10(float(ms))) for users, ms in pairs]
        curves.append((row[0].split("`")[1], kind, points))
    marks = [(v, f"{10**v:,}") for v in range(2, 7)]
    ticks = tuple(math.log10(v) for v in (0.3, 1, 3, 10, 30, 100))
    return _plot("Milliseconds a step, by users in the bank", [(n, k, [p[1] for p in ps]) for n, k, ps in curves],
                 [[p[0] for p in ps] for _, _, ps in curves], marks, (ticks[0], ticks[-1]), ticks,
                 "users in the bank", power=True)  # fmt: skip


def table(page: str, first: str, column: str = "") -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the page's first table whose head begins with `first` and holds `column`."""
    lines = (IMAGES.parent / page).read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        if line.startswith(f"| {first}") and column in line:
            body = []
            for other in lines[i + 2 :]:
                if not other.startswith("|"):
                    break
                body.append(_cells(other))
            return _cells(line), body
    raise ValueError(f"{page}: has no table that begins with {first!r} and holds {column!r}")


def number(cell: str) -> Value | None:
    """`.10 [.05, .15]` as a value with its interval; None of an empty cell."""
    found = [float(part.replace("+", "")) for part in re.findall(r"[+-]?\d*\.\d+", cell)]
    if not found:
        return None
    return Value(found[0], *(found[1:3] if len(found) > 2 else (None, None)))


def _forest(
    title: str,
    names: Sequence[tuple[str, str]],
    panels: Sequence[tuple[str, tuple[float, float], Sequence[Value | None]]],
    note: str,
) -> str:
    """Panels in two columns; a row a name, a dot for the value, a line for its interval."""
    label, gap, row, head, top = 152, 26, 18, 40, 12
    wide = (WIDTH - label - gap - 22) / 2
    high = head + row * len(names) + 26
    parts = []
    for i, (panel, (least, most), values) in enumerate(panels):
        x, y = label + (i % 2) * (wide + gap), top + (i // 2) * high

        def at(value, x=x, least=least, most=most):
            return x + wide * (min(max(value, least), most) - least) / (most - least)

        parts.append(_text(x + wide / 2, y + 20, panel, "bold", "middle"))
        bottom = y + head + row * len(names) - 6
        for tick in (least, (least + most) / 2, most) if least >= 0 else (least, 0.0, most):
            kind = "zero" if least < 0 and tick == 0 else "grid"
            parts.append(_line((at(tick), y + 30), (at(tick), bottom), kind))
            parts.append(_text(at(tick), bottom + 14, _short(tick), "small", "middle"))
        for j, ((name, kind), value) in enumerate(zip(names, values, strict=True)):
            level = y + head + row * j
            if i % 2 == 0:
                parts.append(_text(label - 8, level + 4, name, "small", "end"))
            if value is None:
                continue
            if value.low is not None and value.high is not None:
                parts.append(_line((at(value.low), level), (at(value.high), level), kind + " line"))
            parts.append(f'<circle class="{kind}" cx="{at(value.value):.1f}" cy="{level:.1f}" r="3.2"/>')
    bottom = top + high * math.ceil(len(panels) / 2)
    parts.append(_text(WIDTH / 2, bottom + 8, note, "small", "middle"))
    return _svg(title, parts, bottom + 22)


def _plot(
    title: str,
    curves: Sequence[tuple[str, str, Sequence[float]]],
    x: Sequence,
    marks: Sequence[tuple[float, str]],
    limits: tuple[float, float],
    ticks: Sequence[float],
    below: str,
    *,
    power: bool = False,
) -> str:
    """Curves over one axis, named at their last point."""
    left, right, top, bottom = 56, 118, 46, 250
    xs = [list(x)] * len(curves) if not isinstance(x[0], list) else x
    low, high = min(marks)[0], max(marks)[0]

    def at(a, b):
        return (
            left + (WIDTH - left - right) * (a - low) / (high - low),
            bottom - (bottom - top) * (b - limits[0]) / (limits[1] - limits[0]),
        )

    parts = [_text(16, 26, title, "bold")]
    for tick in ticks:
        parts.append(_line(at(low, tick), at(high, tick), "zero" if tick == 0 and not power else "grid"))
        parts.append(_text(left - 8, at(low, tick)[1] + 4, _short(10**tick if power else tick), "small", "end"))
    for mark, label in marks:
        parts.append(_text(at(mark, limits[0])[0], bottom + 18, label, "small", "middle"))
    for (name, kind, values), own in zip(curves, xs, strict=True):
        points = [at(a, b) for a, b in zip(own, values, strict=True)]
        parts.append(f'<polyline class="{kind} curve" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        parts += [f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3.2"/>' for a, b in points]
        parts.append(_text(points[-1][0] + 8, points[-1][1] + 4, name, "small"))
    parts.append(_text((left + WIDTH - right) / 2, bottom + 38, below, "small", "middle"))
    return _svg(title, parts, bottom + 52)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _short(value: float) -> str:
    return f"{value:.3g}".replace("0.", ".")


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", *, size: int | None = None) -> str:
    scaled = "" if size is None else f' style="font-size: {size}px"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{scaled}>{html.escape(text, False)}</text>'
    )


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    return f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def _arrow(start: tuple[float, float], end: tuple[float, float], kind: str = "line") -> str:
    """A line with a head that touches its end."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    base = end[0] - 8 * math.cos(angle), end[1] - 8 * math.sin(angle)
    side = 4.5 * math.sin(angle), -4.5 * math.cos(angle)
    corners = (end, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1]))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        _line(start, base, kind)
        + f'<polygon class="{"head" if kind == "line" else kind + "-head"}" points="{points}"/>'
    )


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    inside = "\n".join(filter(None, parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n<title>{html.escape(title, False)}</title>\n'
        f'<style>{STYLE}</style>\n<rect class="panel" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:.0f}" '
        f'rx="10"/>\n{inside}\n</svg>\n'
    )


def main(found: Mapping[str, str] | None = None) -> None:
    """Writes every picture beside this file."""
    for name, svg in (pictures() if found is None else found).items():
        (IMAGES / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
