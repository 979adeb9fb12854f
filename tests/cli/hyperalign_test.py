"""`hydrajax run hyperalign` as a person at the terminal sees it."""

import json
import pathlib
import random

import numpy as np
import pytest

from hydrajax.cli import main, run
from hydrajax.runs import authorship_config, workbench

WORDS = ["river", "stone", "market", "letter", "engine", "garden", "winter", "signal", "bottle", "forest", "copper"]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("COLUMNS", "200")
    counts = lambda texts: np.array([[1.0, *(t.count(w) for w in WORDS)] for t in texts], np.float32)  # noqa: E731
    monkeypatch.setattr(workbench, "encoders", lambda base, cache: (counts, counts))


@pytest.fixture
def texts(tmp_path):
    """A folder with one folder an author."""
    for author in ("ann", "bob", "cat"):
        (tmp_path / "texts" / author).mkdir(parents=True)
        for number in range(9):
            rng = random.Random(f"{author} {number}")
            body = " ".join(rng.choice(WORDS) for _ in range(45))
            (tmp_path / "texts" / author / f"{number}.txt").write_text(f"Day {number} of {author} began. It {body}.")
    return str(tmp_path / "texts")


def command(texts, *more):
    sizes = ("--authors", "3", "--shown", "2", "--validation", "1", "--test", "1", "--samples", "1")
    return ["run", "hyperalign", "--data", texts, "--llm", "scripted", "--strategies", "rag,pag", *sizes, *more]


def test_a_run_prints_win_rates_and_its_report_can_be_written_again(texts, capfd):
    main.main(command(texts))
    out, err = capfd.readouterr()
    report = pathlib.Path(out.splitlines()[-1])
    assert report.name == "report.html" and report.is_file() and report.parent.parent == pathlib.Path("runs")
    assert all(name in out for name in ("zero_shot", "icl_random", "rag", "pag", "another_author", "The judge"))
    assert "one source, texts" in err
    config = json.loads((report.parent / "config.json").read_text())
    assert config["strategies"] == ["zero_shot", "icl_random", "rag", "pag"]
    assert config["shown_words"] == 120 and config["prompts"]["max_answer_tokens"] == 250
    before = report.read_text()
    report.unlink()
    main.main(["report", str(report.parent)])
    assert report.read_text() == before
    assert "win rates" in capfd.readouterr().out


def test_a_plan_calls_nothing_and_leaves_nothing(texts, capfd):
    main.main(command(texts, "--judge", "llm", "--plan"))
    out, _ = capfd.readouterr()
    assert "judge" in out and "nothing was called" in out
    assert list(pathlib.Path.cwd().iterdir()) == []


def test_a_plan_shows_the_calls_of_both_llms(texts, capfd):
    main.main(command(texts, "--judge", "llm", "--judge-llm", "claude-haiku-4-5", "--plan"))
    out, _ = capfd.readouterr()
    first, second = out.split("claude-haiku-4-5: nothing was called")
    assert "scripted: nothing was called" in first and "0.00 USD" in first
    assert "judge" in second and "judge" not in first and "USD" in second and " 0.00 USD" not in second


def test_the_path_of_a_judge_is_made_absolute():
    config = authorship_config.Authorship(data=("a",), judge="llm", judge_llm="j.gguf")
    assert config.resolved().judge_llm == str(pathlib.Path("j.gguf").resolve())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--judge-llm", "local"], "give --judge llm"),
        (["--judge", "llm", "--judge-llm", "nobody"], "unknown LLM 'nobody'"),
        (["--strategies", "sorcery"], "unknown prompt strategy 'sorcery'"),
        (["--authors", "9"], "of 3 authors have enough texts, expected 9"),
        (["--authors", "1"], "authors is 1, expected at least 2"),
        (["--llm", "nobody"], "unknown LLM 'nobody'"),
        (["--data", "missing.jsonl"], "missing.jsonl: the file does not exist"),
    ],
)
def test_bad_input_is_one_sentence(texts, capfd, more, words):
    with pytest.raises(SystemExit) as stop:
        main.main(command(texts, *more))
    out, err = capfd.readouterr()
    assert stop.value.code == 2 and words in err and "Traceback" not in err and out == ""
    assert list(pathlib.Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [(["--shown-words", "all"], None), (["--shown-words", "50"], 50), (["--llm", "claude-haiku-4-5"], None), ([], 120)],
)
def test_how_much_of_a_shown_text_is_shown(more, words):
    assert run.parse(["hyperalign", "--data", "a", *more]).config.shown_words == words
