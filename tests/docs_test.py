"""README and documentation: examples print what they say, commands are understood, links lead somewhere."""

import contextlib
import importlib.util
import io
import pathlib
import re
import shlex
import sys

import pytest

import hydrajax
from hydrajax.cli import main
from hydrajax.types import DataError

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCKS = re.compile(r"^```(\w*)(?: title=\"(.+?)\")?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PRINTS = re.compile(r"\s*prints(?: `(.+?)`|\s*```text\n(.*?)^```$)", flags=re.DOTALL | re.MULTILINE)
QUICK = {"docs/configurations.md", "docs/extending.md"}  # the others train, or load a base
MOST_BYTES = 6144
CODE = ("experiments", "hydrajax", "tests")


def files_and_examples(text):
    """({name: content} of the blocks titled as files, [(code, what it prints or None)] of the other Python blocks)."""
    files, examples = {}, []
    for block in BLOCKS.finditer(text):
        language, title, code = block.groups()
        if title:
            files[title] = code
        elif language == "python":
            prints = PRINTS.match(text, block.end())
            examples.append((code, (prints[1] or prints[2]).strip() if prints else None))
    return files, examples


EXAMPLES = {name: files_and_examples(text) for name, text in TEXTS.items()}
COMMANDS = sorted(
    {
        line.split(" #")[0].strip()
        for text in TEXTS.values()
        for language, _, code in BLOCKS.findall(text)
        if language == "bash"
        for line in code.splitlines()
        if line.startswith("hydrajax ")
    }
)


def test_every_python_block_is_a_file_or_says_what_it_prints():
    silent = [(name, code) for name, (_, examples) in EXAMPLES.items() for code, says in examples if says is None]
    assert silent == []
    # What is searched for is what there is: no block is written otherwise, and missed.
    for name, text in TEXTS.items():
        files, examples = EXAMPLES[name]
        assert text.count("```python") == len(examples) + sum(file.endswith(".py") for file in files), name
    assert len(EXAMPLES["README.md"][1]) == 1


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, (_, examples) in EXAMPLES.items()
        if examples
    ],
)
def test_examples_print_what_the_page_says(page, tmp_path, monkeypatch):
    files, examples = EXAMPLES[page]
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for code, says in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), {"__name__": "example"})
        assert printed.getvalue().strip() == says
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, tmp_path, monkeypatch):
    for files, _ in EXAMPLES.values():
        for name, content in files.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    outcome = contextlib.nullcontext()
    if "mypackage" in command:  # which is not there
        outcome = pytest.raises(DataError, match="mypackage")
    if command.endswith("--help"):
        outcome = pytest.raises(SystemExit, match="0")
    with outcome:
        main.parse(shlex.split(command)[1:])


def test_every_target_of_the_makefile_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {target for text in TEXTS.values() for target in re.findall(r"^make (\w[\w-]*)", text, flags=re.MULTILINE)}
    named |= {target for text in TEXTS.values() for target in re.findall(r"`make (\w[\w-]*)", text)}
    assert {"demo", "test", "docs"} <= named
    assert [t for t in sorted(named) if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)] == []


def test_every_file_that_is_named_with_its_folder_exists():
    places = [ROOT, ROOT / "hydrajax"]
    named = {(name, path) for name, text in TEXTS.items() for path in re.findall(r"`((?:\w+/)+\w*(?:\.py)?)`", text)}
    assert len(named) > 60
    code = {(name, path) for name, path in named if path.endswith(".py") or path.split("/")[0] in CODE}
    assert [pair for pair in sorted(code) if not any((place / pair[1]).exists() for place in places)] == []


def test_the_readme_is_short():
    assert PAGES["README.md"].stat().st_size <= MOST_BYTES


def test_every_relative_link_leads_somewhere():
    broken = []
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", BLOCKS.sub("", text)):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = PAGES[name].parent / path if path else PAGES[name]
            if not there.is_file() or (anchor and anchor not in anchors(there.read_text(encoding="utf-8"))):
                broken.append(f"{name}: {target}")
    assert broken == []


def anchors(text):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", BLOCKS.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in PAGES.values() if path.name != "README.md")


def test_pictures_are_those_of_the_numbers_in_the_tables():
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "images" / "draw.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    pictures = draw.pictures()
    assert {path.name for path in draw.IMAGES.glob("*.svg")} == set(pictures)
    stale = [name for name, svg in pictures.items() if (draw.IMAGES / name).read_text(encoding="utf-8") != svg]
    assert stale == []  # make pictures


def test_the_citation_is_of_this_version():
    assert f"\nversion: {hydrajax.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
