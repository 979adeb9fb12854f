"""What there is to choose from, for the help: read from the files, since importing them all takes seconds."""

import importlib.util
import pathlib
import pkgutil
from collections.abc import Sequence

from hydrajax import retrieval
from hydrajax.prompting import registry


def strategies() -> str:
    """The prompt strategies, a line each."""
    return _lines("prompt strategies", "hydrajax.prompting", registry.names())


def families() -> str:
    """The head families."""
    folder = _folder("hydrajax.nn.heads")
    return _lines(
        "head families", "hydrajax.nn.heads", sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    )


def retrievers() -> str:
    """The retrievers."""
    return _lines("retrievers", "hydrajax.retrieval", retrieval.names())


def _lines(title: str, package: str, names: Sequence[str]) -> str:
    """Each with the first line of its file's docstring."""
    lines = []
    for name in names:
        with open(_folder(package) / f"{name}.py", encoding="utf-8") as file:
            first = file.readline().strip().strip('"')
        lines.append(f"  {name}: {first.removeprefix(f'`{name}`: ').rstrip('.')}")
    return "\n".join([f"{title}:", *lines])


def _folder(package: str) -> pathlib.Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return pathlib.Path(spec.origin).parent
