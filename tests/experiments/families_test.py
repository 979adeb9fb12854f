"""The smoke size of the experiment, what makes its prompts the same for all folds, and its tables."""

import dataclasses
import json

import pytest

from experiments import _families_pools, _families_report, families
from hydrajax.data import folds, tasks
from hydrajax.llm import planner, scripted, store
from hydrajax.methods import scorers
from hydrajax.runs import workbench
from tests.runs.conftest import encoders, write_lamp


@pytest.fixture(autouse=True)
def _small_base(monkeypatch):
    monkeypatch.setattr(workbench, "encoders", encoders)


@pytest.fixture
def options(tmp_path):
    write_lamp(tmp_path / "data", "LaMP_2M", train=8, dev=4, records=3, cold=0)
    return families.Options(
        data_dir=str(tmp_path / "data"), pools=("sampled",), tasks=("LaMP_2M",), families=("mlp",), folds=2,
        store=str(tmp_path / "answers.sqlite"), cache=str(tmp_path / "features"), out=tmp_path / "out", smoke=True,
    )  # fmt: skip


@pytest.fixture
def bench(options):
    """Proposals for candidates: no LLM."""
    counting = planner.Planner("scripted", store.Store.without_making(options.store))
    return families.made("labels", "LaMP_2M", options, counting)


@pytest.mark.slow
def test_the_smoke_size_runs_and_prints_every_method_once_a_task(options, capsys):
    families.main(options)
    said = capsys.readouterr()
    table = said.out.split("\n\n")[1].splitlines()
    methods = [line.split(" | ")[0].removeprefix("| ") for line in table[2:]]
    assert methods == [
        "random", "oracle", "vote", "no adapter", "most frequent label", "nearest record", "mlp",
        _families_report.POOLED, _families_report.CHOSEN, _families_report.LENT,
    ]  # fmt: skip
    assert table[0] == "| selected by | LaMP_2M (12 users, 12 questions) |"
    rows = [json.loads(line) for line in (options.out / "LaMP_2M-sampled.jsonl").read_text().splitlines()]
    for row in rows:
        rewards = {method: answer["rewards"] for method, answer in row["answers"].items()}
        assert set(rewards["mlp"]) <= {0.0, 1.0} and len(rewards[_families_report.LENT]) == 4
        assert rewards["oracle"] >= rewards["mlp"]
    # Everything is stored now: the same again asks nothing, and the report computes nothing.
    families.main(dataclasses.replace(options, ask=True))
    assert "0 calls made" in capsys.readouterr().err
    families.main(dataclasses.replace(options, report=True))
    assert capsys.readouterr() == (said.out, "")


def test_a_question_that_is_anothers_record_is_cleaned_away_once_for_all_folds(options, bench):
    task = tasks.LAMP["LaMP_2M"]
    assert bench.whole.users.keys() == {f"train{i}" for i in range(8)} | {f"dev{i}" for i in range(4)}
    path = families.pathlib.Path(options.data_dir) / "LaMP_2M" / "train_questions.json"
    questions = json.loads(path.read_text())
    taken = questions[0]["profile"][0]
    taken["description"] = questions[1]["input"].split("description: ")[1]
    path.write_text(json.dumps(questions))
    whole = _families_pools.everybody(task, _families_pools.SMOKE, options.data_dir, options.seed)
    assert {user: len(own.profile) for user, own in whole.users.items() if len(own.profile) != 3} == {"train0": 2}
    for fold in folds.k_folds(task, (whole,), folds=3, seed=0):
        assert fold.removed == folds.Removed()


def test_a_fold_holds_out_each_user_once_and_learns_from_nobody_held_out(options, bench):
    held = []
    for part in families.parts(bench, options):
        users = {query.user_id for query in part.held_out}
        real = {query.id for query in bench.whole.queries}
        assert not users & {row.user_id for row in (*part.train, *part.judged)}
        assert not {row.query_id for row in (*part.train, *part.heads)} & real
        assert {row.query_id for row in part.judged} <= real
        assert {row.user_id for row in part.heads} == users | {row.user_id for row in part.judged}
        held += sorted(users)
    assert sorted(held) == sorted(bench.whole.users)


def test_a_profile_that_a_fold_would_clean_is_refused(options, bench, monkeypatch):
    dirty = dataclasses.replace(folds.k_folds(tasks.LAMP["LaMP_2M"], (bench.whole,), folds=2, seed=0)[0])
    dirty = dataclasses.replace(dirty, removed=folds.Removed(train_records=1))
    monkeypatch.setattr(families.folds, "k_folds", lambda *args, **rest: (dirty,))
    with pytest.raises(AssertionError, match="changes profiles"):
        families.parts(bench, options)


def test_a_curve_takes_the_first_records_of_each_user_and_none_is_the_pooled_head(options, bench, monkeypatch):
    part = families.parts(bench, options)[0]
    order = families.places(bench)
    taught = {}

    def personalise(pooled, config, rows, *, epochs):
        taught[epochs] = {(row.user_id, row.query_id) for row in rows}

    monkeypatch.setattr(scorers, "personalise", personalise)
    users = {query.user_id for query in part.held_out}
    for n in (0, 1, 2):
        choice = families.selection.Choice(epochs=n, loss="", family="", quality={}, curves={})
        fitted = families.Fitted(scorer=scorers.Untrained(), choice=choice, config=None)
        families.with_records(fitted, part, order, n)
    asked = [(query.user_id, query.id) for query in bench.learned if query.user_id in users]
    assert taught == {0: set(), 1: set(asked[::2]), 2: set(asked)}


@pytest.mark.parametrize(("pseudo", "points"), [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (8, [0, 1, 2, 4, 8])])
def test_the_curve_doubles_and_ends_with_all_records(pseudo, points):
    assert families.numbers(_families_pools.Size(users=(None, None), queries=1, pseudo=pseudo)) == points


def test_a_sampled_pool_counts_what_was_said_with_records_as_one_source(options):
    llm = families.sampler.StoredSampler(scripted.Scripted(), store.Store(options.store))
    try:
        bench = families.made("sampled", "LaMP_2M", options, llm)
    finally:
        llm.close()
    for query in (*bench.learned, *bench.whole.queries):
        pool = bench.pools[query.id]
        texts = [(candidate.source, bench.lab.ctx.task.normalise(candidate.text)) for candidate in pool]
        assert len(set(texts)) == len(texts)
        votes = {source: sum(c.votes for c in pool if c.source == source) for source in ("reranked", "zero_shot")}
        # Greedy and samples with records, one record alone; greedy and samples without.
        assert votes == {"reranked": _families_pools.SAMPLES + 2, "zero_shot": _families_pools.SAMPLES + 1}
        assert pool[0].greedy and pool[0].text == bench.greedy[query.id]


def test_an_unknown_task_is_named():
    with pytest.raises(SystemExit, match="unknown task 'LaMP_9'; valid are LaMP_2M"):
        families.Options(data_dir="x").size("sampled", "LaMP_9")


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
    one = _families_report.Found(task=tasks.LAMP["LaMP_3"], rows=rows, choices={"mlp": ["pairwise/1"] * 2}, numbers=[0])
    lines = _families_report.tables({"LaMP_3": one}, families.FAMILIES, seed=0).splitlines()
    assert "| mlp | 1.000 [1.000, 1.000] |" in lines
    assert "| mlp − shared | +0.500 [+0.500, +0.500], 0.000 |" in lines
    assert "| users with few records | 0 to 2 records: +0.500 |" in lines
    assert "| mlp | pairwise/1 2 |" in lines
