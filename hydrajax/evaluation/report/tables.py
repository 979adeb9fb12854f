"""A table in HTML, and in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from hydrajax.evaluation import markup, roster

element = markup.element
# The heading of a column, and the class of its cells: `name`, `n` (a number), `answer`, `soft`, or none.
Column = tuple[markup.Child, str | None]


def html(columns: Sequence[Column], rows: Iterable[Sequence[markup.Child]]) -> markup.Markup:
    """A table that scrolls where it is wider than the page.

    Args:
      columns: without a line of headings where all of them are None.
      rows: the cells of each, or what `row` makes of them.
    """
    rows = [cells if isinstance(cells, markup.Markup) else row(columns, *cells) for cells in rows]
    heads = [element("th", heading, class_="n" if kind == "n" else None) for heading, kind in columns]
    head = element("thead", element("tr", heads)) if any(heading is not None for heading, _ in columns) else None
    return element("div", element("table", head, element("tbody", rows)), class_="wide")


def row(columns: Sequence[Column], *cells: markup.Child, ours: bool = False) -> markup.Markup:
    """A row with a cell a column; `ours` stands out."""
    written = [element("td", cell, class_=kind) for (_, kind), cell in zip(columns, cells, strict=True)]
    return element("tr", written, class_="ours" if ours else None)


def grouped(
    columns: Sequence[Column],
    cells: Mapping[str, Sequence[markup.Child]],
    reference: str | None,
    among: Iterable[str] = (),
) -> markup.Markup:
    """A table of methods in the groups of the roster.

    Args:
      columns: of what follows the method's name, which stands first.
      cells: by method.
      reference: the method that stands out.
      among: see `roster.ordered`.
    """
    rows = []
    for name, methods in roster.groups(cells, among):
        heading = element("th", name, colspan=len(columns), scope="colgroup")
        rows.append(element("tr", heading, class_="group"))
        for method in methods:
            named = element("span", method, title=roster.EXPLAINED.get(method))
            rows.append(row(columns, named, *cells[method], ours=method == reference))
    return html(columns, rows)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; rows that are empty but for their first cell are left out."""
    lines = [f"| {' | '.join(line)} |" for line in (heads, *(row for row in rows if any(row[1:])))]
    return "\n".join([lines[0], f"|{'---|' * len(heads)}", *lines[1:]])
