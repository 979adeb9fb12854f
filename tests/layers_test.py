"""Imports run one way: a folder knows those before it on the way of the data, and none behind it."""

import ast
import pathlib

import hydrajax

ORDER = (
    "types", "files", "forms", "plugins", "progress", "data", "metrics", "retrieval", "llm", "prompting", "nn",
    "training", "methods", "evaluation", "runs", "cli", "entry", "__main__",
)  # fmt: skip
ROOT = pathlib.Path(hydrajax.__file__).parent


def place(name):
    return ORDER.index(name)


def imported(path):
    """The parts of the package that a file imports, also late ones inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("hydrajax."))


def test_every_part_has_a_place():
    found = {
        path.stem
        for path in ROOT.iterdir()
        if path.name[0] not in "."
        and path.stem not in ("__init__", "__pycache__")
        and (path.is_dir() or path.suffix == ".py")
    }
    assert found == set(ORDER)


def test_imports_run_one_way():
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own != "__init__":
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in imported(path) if place(name) > place(own)]
    assert wrong == []
