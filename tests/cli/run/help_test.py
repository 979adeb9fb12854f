"""Help that teaches."""

import re

import pytest

from hydrajax import retrieval
from hydrajax.cli import main
from hydrajax.nn import families
from hydrajax.prompting import registry
from hydrajax.runs import kinds
from hydrajax.training import losses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "report", "answer", "personalise"]),
        (["run", "--help"], ["demo", "lamp", "custom"]),
        (["run", "demo", "--help"], ["--plan", "--llm", "--seed"]),
        (["run", "lamp", "--help"], ["--task", "--data-dir", "--train-users", "--skip-bad", "--settings.retrieved"]),
        (["run", "custom", "--help"], ["--task", "TOML"]),
        (["report", "--help"], ["report.html"]),
        (["answer", "--help"], ["--user", "--input", "--explain"]),
        (["personalise", "--help"], ["--profile", "JSON lines", "--plan", "--llm", "--store"]),
    ],
)
def test_help_teaches(capfd, arguments, words):
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 0
    out = capfd.readouterr().out
    for word in words:
        assert word in out


def help_of(capfd, *arguments):
    with pytest.raises(SystemExit):
        main.main([*arguments, "--help"])
    return capfd.readouterr().out


def test_help_lists_what_there_is_to_choose_from_with_a_line_each(capfd):
    out = help_of(capfd, "run", "lamp")
    for name in (*registry.names(), *families.names(), *retrieval.names()):
        line = next((line for line in out.splitlines() if line.strip("│ ").startswith(f"{name}: ")), "")
        assert len(line.strip("│ ")) > len(name) + 10, name
    assert all(f"`{loss}`" in out for loss in losses.LOSSES)
    assert all(f"`{preset}`" in out for preset in ("auto", "small", "default", "paper"))
    assert "hypotheses: " in (own := help_of(capfd, "run", "hyperalign")) and "head families" not in own


def test_all_kinds_together_list_what_there_is_to_choose_from_once(capfd):
    out = help_of(capfd, "run")
    for name in (*registry.names(), *families.names(), *retrieval.names()):
        assert sum(line.strip("│ ").startswith(f"{name}: ") for line in out.splitlines()) == 1, name


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_help_is_written_for_users(kind, capfd):
    out = help_of(capfd, "run", kind)
    assert not re.search(r"hydrajax/\w+|`[a-z_]+\.[A-Za-z_.]+(\(\))?`|LOSSES", out.replace("`FILE.py", ""))
    assert kind == "hyperalign" or "{chat,one_prompt}" in out


def test_a_subcommands_help_is_its_own(capfd):
    custom, demo = help_of(capfd, "run", "custom"), help_of(capfd, "run", "demo")
    assert "train.jsonl" in custom and "train_questions.json" not in custom and "LaMP_2N" not in custom
    assert "--task" not in demo and "--data-dir" not in demo and "--folds" not in demo
