"""Own against shuffled profiles, on a small task with a scripted LLM."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import strategies
from hydrajax.llm import planner, store
from hydrajax.prompting import registry
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


def test_the_smoke_size_has_a_folder_and_a_plan_of_its_own(options, capsys):
    strategies.main(dataclasses.replace(options, strategies=("pag",)))
    assert [path.name for path in options.out.iterdir()] == ["smoke"]
    capsys.readouterr()
    strategies.main(dataclasses.replace(options, strategies=("pag",), plan=True))
    assert "0 calls, 0 tokens of scripted" in capsys.readouterr().out


def refused(options, capsys):
    with pytest.raises(SystemExit) as ended:
        strategies.main(options)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("strategies: ") == 1 and "Traceback" not in said
    return said.partition("strategies: ")[2]


def test_a_folder_of_another_run_is_refused_before_any_call(options, capsys):
    options = dataclasses.replace(options, strategies=("rag",))
    strategies.main(options)
    folder = options.out / "smoke" / "LaMP_4"
    before = (folder / "predictions.jsonl").read_bytes()
    assert "holds a run with other settings (seed)" in refused(dataclasses.replace(options, seed=1), capsys)
    (folder / "settings.json").unlink()
    assert "there is no settings.json" in refused(options, capsys)
    assert (folder / "predictions.jsonl").read_bytes() == before
    strategies.main(dataclasses.replace(options, report=True))
    assert "| `rag` |" in capsys.readouterr().out
    assert "no predictions of pag" in refused(
        dataclasses.replace(options, report=True, strategies=("rag", "pag")), capsys
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tasks": ("LaMP_99",)}, "unknown task 'LaMP_99'; valid are LaMP_1"),
        ({"tasks": ()}, "--tasks names none"),
        ({"strategies": ("none",)}, "unknown prompt strategy 'none', expected one of "),
        ({"strategies": ("cfrag",), "cross_user": False}, "no strategy is left"),
        ({"users": 0}, "--users is 0, expected at least 1"),
        ({"seed": -1}, "--seed is -1, expected at least 0"),
        ({"report": True}, "out/smoke/LaMP_4: holds no predictions"),
        ({"data_dir": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(options, change, sentence, capsys):
    assert sentence in refused(dataclasses.replace(options, **change), capsys)
    assert not options.out.exists()


def test_a_folder_that_cannot_be_written_is_named_first(options, tmp_path, capsys):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert f"{tmp_path / 'file'}: is a file" in refused(dataclasses.replace(options, out=out), capsys)


def test_without_other_users_the_strategies_that_compare_are_left_out(options):
    options = dataclasses.replace(options, strategies=registry.names())
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
