"""The smoke size of the experiment, what makes its prompts the same for all folds, and its tables."""

import dataclasses
import json
import pathlib

import pytest

from experiments import candidates, data, families
from experiments.reports import families as report
from hydrajax import training
from hydrajax.data import folds
from hydrajax.methods import scorers
from hydrajax.runs import workbench
from hydrajax.runs.machine import Machine
from tests.runs.conftest import write_lamp


@pytest.fixture(autouse=True)
def _small_base(small_base):
    pass


@pytest.fixture
def options(tmp_path):
    write_lamp(tmp_path / "data", "LaMP_2M", train=8, dev=4, records=3, cold=0)
    data_dir = tmp_path / "data"
    return ["--data-dir", data_dir, "--tasks", "LaMP_2M", "--families", "mlp", "--folds", 2, "--pools", "sampled"]


@pytest.fixture
def config(options, configured):
    """Proposals for candidates: no LLM."""
    return configured("families", *options[:-1], "labels")


@pytest.fixture
def there(config, tmp_path):
    with workbench.planning(Machine(store=str(tmp_path / "answers.sqlite")), config.llms) as bench:
        return candidates.make(config, data.load(config, str), bench)


@pytest.mark.slow
def test_the_smoke_size_runs_and_prints_every_method_once_a_task(options, experiment, tmp_path, monkeypatch):
    out = tmp_path / "out"
    asked = experiment("families", *options, "--only-ask").out
    assert "calls, nothing fitted" in asked and " 0 calls" not in asked
    said = experiment("families", *options).out
    table = said.split("\n\n")[1].splitlines()
    methods = [line.split(" | ")[0].removeprefix("| ") for line in table[2:]]
    assert methods == [
        "random", "oracle", "vote", "no adapter", "most frequent label", "nearest record", "mlp",
        report.POOLED, report.CHOSEN, report.LENT,
    ]  # fmt: skip
    assert table[0] == "| selected by | LaMP_2M (12 users, 12 questions) |"
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        rewards = {method: answer["rewards"] for method, answer in row["answers"].items()}
        assert set(rewards["mlp"]) <= {0.0, 1.0} and len(rewards[report.LENT]) == 4
        assert rewards["oracle"] >= rewards["mlp"]
    # Everything was stored by then, and is now: the same again asks nothing, and fits nothing that is finished.
    part = json.loads((out / "results.json").read_text())["parts"]["LaMP_2M-sampled"]
    assert part["llm"]["calls"] == 0

    def never(*args, **rest):
        raise AssertionError("a finished fold was fitted again")

    monkeypatch.setattr(families, "choose", never)
    assert experiment("families", *options).out == said


@pytest.mark.slow
def test_tasks_and_pools_are_parts(options, experiment, tmp_path):
    said = experiment("families", *options, "--pools", "sampled", "labels").out
    for pool in ("sampled", "labels"):
        assert f"## {pool}\n\n| selected by | LaMP_2M (12 users, 12 questions) |" in said
        assert (tmp_path / "out" / f"LaMP_2M-{pool}" / "report.md").read_text().rstrip("\n") in said


@pytest.mark.slow
def test_candidates_of_several_parts_are_asked_for_alone(options, experiment):
    said = experiment("families", *options, "labels", "--only-ask").out
    assert "LaMP_2M-sampled: " in said and "LaMP_2M-labels: 0 calls, nothing fitted" in said


def test_a_question_that_is_anothers_record_is_cleaned_away_once_for_all_folds(config, there):
    assert there.whole.users.keys() == {f"train{i}" for i in range(8)} | {f"dev{i}" for i in range(4)}
    path = pathlib.Path(config.data_dir) / "LaMP_2M" / "train_questions.json"
    questions = json.loads(path.read_text())
    taken = questions[0]["profile"][0]
    taken["description"] = questions[1]["input"].split("description: ")[1]
    path.write_text(json.dumps(questions))
    whole = data.load(config, str).held_out
    assert {user: len(own.profile) for user, own in whole.users.items() if len(own.profile) != 3} == {"train0": 2}
    for fold in folds.k_folds(config.lamp_task, (whole,), folds=3, seed=0):
        assert fold.removed == folds.Removed()


def test_a_fold_holds_out_each_user_once_and_learns_from_nobody_held_out(config, there):
    held = []
    for part in families.parts(there, config):
        users = {query.user_id for query in part.held_out}
        real = {query.id for query in there.whole.queries}
        assert not users & {row.user_id for row in (*part.train, *part.judged)}
        assert not {row.query_id for row in (*part.train, *part.personal)} & real
        assert {row.query_id for row in part.judged} <= real
        assert {row.user_id for row in part.personal} == users | {row.user_id for row in part.judged}
        held += sorted(users)
    assert sorted(held) == sorted(there.whole.users)


def test_a_profile_that_a_fold_would_clean_is_refused(config, there, monkeypatch):
    dirty = dataclasses.replace(folds.k_folds(config.lamp_task, (there.whole,), folds=2, seed=0)[0])
    dirty = dataclasses.replace(dirty, removed=folds.Removed(train_records=1))
    monkeypatch.setattr(families.folds, "k_folds", lambda *args, **rest: (dirty,))
    with pytest.raises(AssertionError, match="changes profiles"):
        families.parts(there, config)


def test_a_curve_takes_the_first_records_of_each_user_and_none_is_the_pooled_head(config, there, monkeypatch):
    part = families.parts(there, config)[0]
    order = families.places(there.learned)
    taught = {}

    def personalise(pooled, config, rows, *, epochs):
        taught[epochs] = {(row.user_id, row.query_id) for row in rows}

    monkeypatch.setattr(scorers, "personalise", personalise)
    users = {query.user_id for query in part.held_out}
    for n in (0, 1, 2):
        choice = families.selection.Choice(epochs=n, loss="", family="", quality={}, curves={})
        fitted = families.Fitted(scorer=scorers.Untrained(), choice=choice, config=None)
        families.with_records(fitted, part, order, n)
    asked = [(query.user_id, query.id) for query in there.learned if query.user_id in users]
    assert taught == {0: set(), 1: set(asked[::2]), 2: set(asked)}


def test_other_seeds_take_what_the_first_one_chose(config, there, monkeypatch):
    part, asked = families.parts(there, config)[0], []

    def fit(self, name, **rows):
        asked.append((self.configs, self.epochs))
        return scorers.Untrained()

    monkeypatch.setattr(families.selection.ValidatedLearner, "fit", fit)
    chosen = training.FitConfig(family="mlp", loss="pairwise", pooled_epochs=3, learning_rate=0.02)
    choice = families.selection.Choice(epochs=4, loss="pairwise", family="mlp", quality={}, curves={})
    first = families.Fitted(scorer=scorers.Untrained(), choice=choice, config=chosen)
    families.fit_family("mlp", part, 1, lambda texts: texts, config, first)
    assert asked == [([dataclasses.replace(chosen, seed=1)], (4,))]


@pytest.mark.parametrize(("pseudo", "points"), [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (8, [0, 1, 2, 4, 8])])
def test_the_curve_doubles_and_ends_with_all_records(config, pseudo, points):
    assert families.numbers(dataclasses.replace(config, pseudo=pseudo)) == points


def test_a_sampled_pool_counts_what_was_said_with_records_as_one_source(options, configured, tmp_path):
    config = configured("families", *options)
    with workbench.opened(Machine(store=str(tmp_path / "answers.sqlite")), config.llms) as bench:
        there = candidates.make(config, data.load(config, str), bench)
    for query in (*there.learned, *there.whole.queries):
        (pool,) = there.of([query])
        texts = [(candidate.source, config.lamp_task.normalise(candidate.text)) for candidate in pool.candidates]
        assert len(set(texts)) == len(texts)
        sources = ("reranked", "zero_shot")
        votes = {source: sum(c.votes for c in pool.candidates if c.source == source) for source in sources}
        # Greedy and samples with records, one record alone; greedy and samples without.
        assert votes == {"reranked": candidates.SAMPLES + 2, "zero_shot": candidates.SAMPLES + 1}
        assert pool.candidates[0].greedy and pool.candidates[0].text == there.greedy[query.id]


def test_an_unknown_task_is_named(options, refused):
    assert "unknown task 'LaMP_9'; valid are LaMP_2M" in refused("families", *options, "--tasks", "LaMP_9")


def test_sizes_are_those_of_the_task_where_none_are_given(options, configured):
    whole = configured("families", "--tasks", "LaMP_3", "--pools", "labels", "--pseudo", 5, smoke=False).sized()
    assert (whole.train_users, whole.dev_users, whole.queries_per_user, whole.pseudo, whole.seeds) == (40, 25, 2, 5, 1)
    assert whole.part == "LaMP_3-labels" and whole.llms == () and whole.parts() == ()
    parts = [part.part for part in configured("families", smoke=False).parts()]
    assert len(parts) == 6 and parts[0] == "LaMP_2M-sampled"


def test_differences_are_paired_and_turned():
    rows = [
        {
            "query": str(i), "user": str(i), "gold": None, "records": i,
            "answers": {
                "mlp": {"predictions": [""], "rewards": [1.0]},
                "shared": {"predictions": ["", ""], "rewards": [1.0, 0.0]},
            },
        }
        for i in range(6)
    ]  # fmt: skip
    part = {"choices": {"mlp": ["pairwise/1"] * 2}, "numbers": [0]}
    lines = report.of_pool({"LaMP_3": rows}, {"LaMP_3": part}, ("shared", "mlp"), seed=0).splitlines()
    assert "| mlp | 1.000 [1.000, 1.000] |" in lines
    assert "| mlp − shared | +0.500 [+0.500, +0.500], 0.000 |" in lines
    assert "| users with few records | 0 to 2 records: +0.500 |" in lines
    assert "| mlp | pairwise/1 2 |" in lines
