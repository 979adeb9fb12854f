"""The README's examples run and print what the README says."""

import contextlib
import io
import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


EXAMPLES = re.findall(r"```python\n(.*?)```\n\nprints `(.*?)`", README, flags=re.DOTALL)


def test_every_example_is_one_that_says_what_it_prints():
    assert len(EXAMPLES) == README.count("```python") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("code", "says"), EXAMPLES, ids=["library", "bases"])
def test_an_example_prints_what_the_readme_says(code, says):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().strip() == says


def test_every_command_of_the_makefile_that_the_readme_names_exists():
    makefile = (pathlib.Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\w[\w-]*)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)
