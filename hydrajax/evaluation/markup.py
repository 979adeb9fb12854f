"""HTML elements from Python: what is text is escaped, always."""

import html
from collections.abc import Iterable
from typing import Any


class Markup(str):
    """Finished HTML. Everything else is text."""

    __slots__ = ()


# An iterable holds children again.
Child = str | int | float | None | Iterable[Any]
VOID = frozenset({"meta", "br", "hr", "img", "line", "rect", "circle", "path", "polyline"})


def element(name: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """One element.

    Args:
      name: the element's name.
      children: `Markup` as it is, text and numbers escaped, iterables flattened, None left out.
      attributes: `class_` stands for `class`, other underscores for hyphens; None leaves the attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = join(children)
    if not content and name in VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{content}</{name}>")


def join(children: Child) -> Markup:
    """The children one after another, escaped where they are text."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int | float):
        return Markup(html.escape(str(children), quote=True))
    return Markup("".join(join(child) for child in children))
