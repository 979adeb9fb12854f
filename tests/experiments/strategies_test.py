"""Own against shuffled profiles, on a small task with a scripted LLM."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import strategies
from hydrajax.llm import planner, store
from hydrajax.runs import pipeline


@pytest.fixture
def options(tmp_path, monkeypatch):
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

    monkeypatch.setattr(pipeline, "encoders", lambda *args, **rest: (None, embed))
    return strategies.Options(
        data_dir=str(tmp_path / "data"),
        tasks=("LaMP_4",),
        out=tmp_path / "out",
        store=str(tmp_path / "answers.sqlite"),
        smoke=True,
    )


def test_every_strategy_has_a_row_and_a_second_run_calls_nobody(options, capsys):
    strategies.main(options)
    first = capsys.readouterr()
    assert all(f"| `{name}` |" in first.out for name in options.chosen())
    assert " 0 calls made" not in first.err
    strategies.main(options)
    second = capsys.readouterr()
    assert "LaMP_4: 0 calls made" in second.err and second.out == first.out


def test_without_other_users_the_strategies_that_compare_are_left_out(options):
    assert set(options.chosen()) - set(dataclasses.replace(options, cross_user=False).chosen()) == {
        "cfrag",
        "hypothesis_bank",
        "peer_difference",
    }


def test_swapped_profiles_are_never_ones_own(options):
    task = strategies.tasks.LAMP["LaMP_4"]
    train, dev = strategies.read(task, options)
    here = strategies.bench(task, train, dev.users, options, planner.Planner("m", store.Store.without_making()), None)
    other = strategies.swapped(here, options)
    assert set(other.users) == set(here.users)
    profiles = {user_id: user.profile for user_id, user in here.users.items()}
    assert all(other.users[u].profile != profiles[u] for u in profiles)
    assert sorted(map(str, (u.profile for u in other.users.values()))) == sorted(map(str, profiles.values()))
    assert other.ledger is not here.ledger and other.ctx.faults is not here.ctx.faults
