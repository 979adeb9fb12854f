"""What there is to choose from, for the help: read from the files, since importing them all takes seconds."""

import importlib.util
import pathlib
import pkgutil
from collections.abc import Sequence

from hydrajax import retrieval
from hydrajax.prompting import registry


def text() -> str:
    """Strategies, head families and retrievers, a line each."""
    found = {
        "prompt strategies": ("hydrajax.prompting", registry.names()),
        "head families": ("hydrajax.nn.heads", names("hydrajax.nn.heads")),
        "retrievers": ("hydrajax.retrieval", retrieval.names()),
    }
    parts = []
    for title, (package, members) in found.items():
        lines = [f"  {name}: {first_line(package, name)}" for name in members]
        parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(parts)


def names(package: str) -> Sequence[str]:
    """The modules of a package, which is not imported."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_folder(package))]))


def first_line(package: str, module: str) -> str:
    """The first line of a module's docstring, without the module's own name."""
    with open(_folder(package) / f"{module}.py", encoding="utf-8") as file:
        line = file.readline().strip().strip('"')
    return line.removeprefix(f"`{module}`: ").rstrip(".")


def _folder(package: str) -> pathlib.Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return pathlib.Path(spec.origin).parent
