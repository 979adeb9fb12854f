"""Own against shuffled profiles, on a small task with a scripted LLM."""

import json
import re

import numpy as np
import pytest

from experiments import data, strategies
from hydrajax.cli import main
from hydrajax.methods import scorers
from hydrajax.methods.collaborative import learn
from hydrajax.prompting import library, registry
from hydrajax.runs import workbench
from hydrajax.runs.machine import Machine


class LearnsNothing:
    """Stands in for what fits `cfrag`'s reranker, which is tested where it is learned."""

    def fit(self, name, *, train, personal, judged):
        assert train and {row.user_id[:5] for row in train} == {"train"}
        return scorers.Untrained()

    def cross_fit(self, name, scorer, *, train, personal):
        return scorer


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "_user_encoder", lambda profiles: None)
    monkeypatch.setattr(strategies, "learner", lambda config, bench: LearnsNothing())
    for split, users in (("train", 4), ("dev", 7)):
        questions, golds = [], []
        for u in range(users):
            profile = [
                {"id": str(i), "text": f"story {split}{u} part {i}", "title": f"title {split}{u} {i}"} for i in range(6)
            ]
            name = f"{split}{u}"
            questions.append(
                {"id": name, "user_id": name, "profile": profile,
                 "input": f"Generate a headline for the following article: news of {name}"}
            )  # fmt: skip
            golds.append({"id": name, "output": f"headline of {name}"})
        folder = tmp_path / "data" / "LaMP_4"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}_questions.json").write_text(json.dumps(questions))
        (folder / f"{split}_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))

    def embed(texts):
        return np.array([[len(text) % 7, len(text) % 5, 1.0] for text in texts], np.float32)

    monkeypatch.setattr(workbench, "encoders", lambda *args, **rest: (embed, embed))
    return ["--data-dir", tmp_path / "data", "--tasks", "LaMP_4"]


def calls(folder):
    return json.loads((folder / "results.json").read_text())["parts"]["LaMP_4"]["llm"]["calls"]


def test_every_strategy_has_a_row_and_a_second_run_calls_nobody(options, experiment, configured, tmp_path):
    first = experiment("strategies", *options)
    # No two users of these data wrote on one article.
    assert "`peer_difference` compares what users wrote on the same item, and no item of LaMP_4 has" in first.out
    rows = {name for name in configured("strategies").compared if f"| `{name}` |" in first.out}
    assert rows == set(configured("strategies").compared) - {"peer_difference"}
    assert calls(tmp_path / "out") > 0
    assert (tmp_path / "out" / library.FILE).is_file()
    assert experiment("strategies", *options).out == first.out
    assert calls(tmp_path / "out") == 0


def test_a_plan_counts_what_is_missing_and_leaves_nothing_behind(options, experiment, tmp_path):
    options = [*options, "--strategies", "pag"]
    planned = experiment("strategies", *options, "--plan").out
    assert "scripted: nothing was called" in planned and not (tmp_path / "out").exists()
    assert not (tmp_path / "answers.sqlite").exists()
    experiment("strategies", *options)
    planned = experiment("strategies", *options, "--plan").out
    assert re.search(r"\ball\W+(\d+)", planned)[1] == "0"


def test_a_folder_of_another_run_is_refused_before_any_call(options, experiment, refused, tmp_path, capsys):
    options = [*options, "--strategies", "rag"]
    experiment("strategies", *options)
    folder = tmp_path / "out"
    before = (folder / "predictions.jsonl").read_bytes()
    said = refused("strategies", *options, "--seed", 1, store="other.sqlite")
    assert "holds a run with other settings (seed differ)" in said
    (folder / "config.json").unlink()
    assert "is not empty and holds no run" in refused("strategies", *options)
    assert (folder / "predictions.jsonl").read_bytes() == before


def test_the_report_of_a_finished_run_computes_nothing(options, experiment, refused, tmp_path, capsys):
    said = experiment("strategies", *options, "--strategies", "rag").out
    (tmp_path / "out" / "report.md").unlink()
    main.main(["report", str(tmp_path / "out")])
    assert capsys.readouterr().out == said and "| `rag` |" in said
    assert "| `rag` |" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--tasks", "LaMP_99"), "unknown task 'LaMP_99'; valid are LaMP_1"),
        (("--tasks",), "unknown task ''"),
        (("--strategies", "none"), "unknown prompt strategy 'none', expected one of "),
        (("--strategies", "cfrag", "--no-cross-user"), "no strategy is left"),
        (("--dev-users", 0), "--dev-users is 0, expected at least 1"),
        (("--seed", -1), "seed is -1, expected at least 0"),
        (("--data-dir", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(options, change, sentence, refused, tmp_path):
    assert sentence in refused("strategies", *options, *change)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named_first(options, tmp_path, refused):
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert f"{tmp_path / 'file'}: is a file" in refused("strategies", *options, out=out)


def test_without_other_users_the_strategies_that_compare_are_left_out(configured):
    names = ("--strategies", *registry.names())
    own = configured("strategies", *names, "--no-cross-user").compared
    assert set(configured("strategies", *names).compared) - set(own) == {"cfrag", "hypothesis_bank", "peer_difference"}


def test_swapped_profiles_are_never_ones_own(options, configured, tmp_path):
    config = configured("strategies", *options)
    with workbench.planning(Machine(store=str(tmp_path / "answers.sqlite")), ("scripted",)) as bench:
        here = strategies.make_lab(config, data.load(config, str), bench)
    other = strategies.swapped(here)
    assert set(other.users) == set(here.users)
    profiles = {user_id: user.profile for user_id, user in here.users.items()}
    assert all(other.users[u].profile != profiles[u] for u in profiles)
    assert sorted(map(str, (u.profile for u in other.users.values()))) == sorted(map(str, profiles.values()))
    assert other.ledger is not here.ledger and other.ctx.faults is not here.ctx.faults
