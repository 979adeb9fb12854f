"""The README's example runs and prints what the README says."""

import contextlib
import io
import pathlib
import re

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_library_example_prints_what_the_readme_says():
    code = re.search(r"```python\n(.*?)```\n\nprints `(.*?)`", README, flags=re.DOTALL)
    assert code is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.group(1), "README.md", "exec"), {})
    assert printed.getvalue().strip() == code.group(2)


def test_every_command_of_the_makefile_that_the_readme_names_exists():
    makefile = (pathlib.Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\w[\w-]*)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)
