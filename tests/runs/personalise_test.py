"""Users who come to a finished run: their heads are what the run itself would have given them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from hydrajax import files
from hydrajax.llm import request, scripted
from hydrajax.methods import llm_stages
from hydrajax.runs import added, answer, authorship_config, folder, kinds, personalise, saved
from hydrajax.runs import config as config_lib
from hydrajax.types import DataError, Record, User
from tests.runs.conftest import WORDS, features, quiet

pytestmark = pytest.mark.slow  # whole runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Later:
    out: object
    machine: object
    profiles: list

    def write(self, rows, name="people.json"):
        path = self.out.parent / name
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return path

    def come(self, rows=None, **rest):
        return personalise.personalise(
            self.out, self.write(self.profiles if rows is None else rows), command="hydrajax personalise",
            machine=self.machine, say=quiet, **rest,
        )  # fmt: skip

    def plan(self, rows=None, **rest):
        return personalise.plan(
            self.out, self.write(self.profiles if rows is None else rows), machine=self.machine, **rest
        )[1]


def as_before(finished, path):
    """A copy of a finished run as if two of its new users had not been there yet; their profiles; its answers."""
    data = path / "data" / "LaMP_3"
    shutil.copytree(finished.config.data_dir, path / "data")
    questions = json.loads((data / "dev_questions.json").read_text())
    golds = json.loads((data / "dev_outputs.json").read_text())
    for name, content in (("questions", questions[2:]), ("outputs", golds | {"golds": golds["golds"][2:]})):
        (data / f"dev_{name}.json").write_text(json.dumps(content))
    out = shutil.copytree(finished.out, path / "run")
    values = json.loads((out / "config.json").read_text())
    files.write_json(out / "config.json", values | {"data_dir": str(path / "data")})
    store = shutil.copy(finished.machine.store, path / "answers.sqlite")
    profiles = [{"user_id": row["id"], "profile": row["profile"]} for row in questions[:2]]
    return Later(out=out, machine=dataclasses.replace(finished.machine, store=str(store)), profiles=profiles)


@pytest.fixture
def later(finished, tmp_path):
    return as_before(finished, tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """What the LLM was asked."""
    asked, complete = [], scripted.Scripted.complete

    async def seen(self, wanted):
        asked.append(wanted)
        return await complete(self, wanted)

    monkeypatch.setattr(scripted.Scripted, "complete", seen)
    return asked


def person(name, records=4):
    rng = np.random.default_rng(len(name))
    profile = [
        {"id": f"{i}", "text": f"{name} {i} " + " ".join(rng.choice(WORDS, 7)), "score": str(1 + i % 5)}
        for i in range(records)
    ]
    return {"user_id": name, "profile": profile}


def test_who_comes_later_gets_the_heads_and_the_answers_of_who_was_there(finished, later, calls):
    _check_same(finished, later, calls)


def test_also_where_the_adapter_learns_from_reranked_records(finished, tmp_path, run, calls):
    settings = dataclasses.replace(finished.config.settings, adapter_pools="reranked")
    machine = dataclasses.replace(finished.machine, store=str(tmp_path / "own.sqlite"))
    other = dataclasses.replace(
        finished,
        config=dataclasses.replace(finished.config, settings=settings),
        out=tmp_path / "first",
        machine=machine,
    )
    run(other.config, other.out, machine)
    calls.clear()
    _check_same(other, as_before(other, tmp_path), calls)


def _check_same(finished, later, calls):
    there = saved.load(finished.out / "scorers", features)
    done = later.come()
    assert (done.fitted, done.kept, done.headed) == (["dev0", "dev1"], [], ["reranker", "adapter"])
    assert calls == [] and done.calls == 0 and done.cached > 0  # the run asked the same
    assert done.heads == dict.fromkeys(added.NAMES, 2) and done.headless == {}
    for user_id in ("dev0", "dev1"):
        found = added.find(later.out, user_id)
        for name in added.NAMES:
            scorer = getattr(there, name)
            own = leaves(scorer.heads, scorer.user_rows[user_id])
            for leaf, expected in zip(leaves(found.heads[name], 0), own, strict=True):
                np.testing.assert_allclose(leaf, expected, atol=1e-5)
    for row in finished.predictions():
        if row["user"] in ("dev0", "dev1"):
            given = answer.answer(later.out, row["user"], row["input"], machine=later.machine)
            assert given.personal and given.known
            assert [given.prediction] == row["answers"]["hydra"]["predictions"]
            assert [record.id for record in given.records] == row["records"]["hydra"]
            scores = [candidate["scores"]["hydra"] for candidate in row["pools"]["reranked"]]
            np.testing.assert_allclose(given.scores, scores, atol=1e-4)
    assert calls == []


def leaves(heads, row):
    import jax

    return [np.asarray(leaf)[row] for leaf in jax.tree.leaves(heads)]


def test_who_comes_again_costs_nothing_and_who_has_changed_is_fitted_anew(later, calls):
    ann, bob = person("ann"), person("bob")
    done = later.come([ann, bob])
    assert done.fitted == ["ann", "bob"] and done.calls == len(calls) > 0
    before = {name: added.find(later.out, name) for name in ("ann", "bob")}
    calls.clear()
    (later.out.parent / "answers.sqlite").unlink()  # the run's folder is enough
    again = later.come("\n".join(map(json.dumps, [bob, ann])))
    assert (again.fitted, again.kept, again.calls, calls) == ([], ["bob", "ann"], 0, [])
    bob["profile"].append(person("bobby")["profile"][0] | {"id": "new"})
    changed = later.come([ann, bob])
    assert (changed.fitted, changed.kept) == (["bob"], ["ann"]) and calls
    assert not [asked for asked in calls if "ann" in asked.messages[-1].text]
    after = {name: added.find(later.out, name) for name in ("ann", "bob")}
    assert str(after["ann"]) == str(before["ann"]) and str(after["bob"].heads) != str(before["bob"].heads)
    assert [record.id for record in after["bob"].user.profile] == ["0", "1", "2", "3", "new"]


def test_heads_do_not_depend_on_who_else_comes(later):
    later.come([person("ann"), person("bob")])
    together = added.find(later.out, "ann")
    shutil.rmtree(later.out / added.FOLDER)
    later.come([person("ann")])
    alone = added.find(later.out, "ann")
    for name in added.NAMES:
        for one, other in zip(leaves(together.heads[name], 0), leaves(alone.heads[name], 0), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("pools", ["shared", "reranked", "zero_shot"])
def test_a_plan_counts_what_will_be_asked(later, calls, pools):
    values = json.loads((later.out / "config.json").read_text())
    values["settings"]["adapter_pools"] = pools
    files.write_json(later.out / "config.json", values)
    (planned,) = later.plan([person("ann"), person("bob", 3), person("cold", 0)])
    assert calls == [] and not (later.out / added.FOLDER).exists()
    shown = json.loads((later.out / "scorers" / "users.json").read_text())["shown"]
    assert shown == 1  # a record alone was shown before, to the same greedy answer
    # 2 users x 2 pseudo-queries, of 3 and of 2 other records
    expected = {
        llm_stages.RECORD_TRIALS: 2 * 3 + 2 * 2,
        llm_stages.ZERO_SHOT_LEARNED: 4 * {"shared": 2, "reranked": 0, "zero_shot": 3}[pools],
        llm_stages.SHOWN_LEARNED: 4 * {"shared": 1, "reranked": 2, "zero_shot": 0}[pools],
    }
    found = {stage: plan.calls + plan.cached for stage, plan in planned.stages.items() if plan.calls + plan.cached}
    assert found == {stage: count for stage, count in expected.items() if count}
    done = later.come([person("ann"), person("bob", 3), person("cold", 0)])
    assert done.calls == len(calls) == sum(plan.calls for plan in planned.stages.values())
    assert later.plan([person("ann"), person("bob", 3), person("cold", 0)]) == ()
    lines = [json.loads(line) for line in (later.out / "invocations.jsonl").read_text().splitlines()]
    assert (lines[-1]["command"], lines[-1]["finished"]) == ("hydrajax personalise", True)
    assert lines[-1]["calls"] == done.calls


def test_a_killed_call_goes_on(later, calls, monkeypatch):
    people = [person("ann"), person("bob"), person("carla")]
    monkeypatch.setattr(personalise, "GROUP", 1)
    save = added.save

    def killed(run, who):
        if who.user.id == "bob":
            raise KeyboardInterrupt
        save(run, who)

    with monkeypatch.context() as patch:
        patch.setattr(added, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            later.come(people)
    before = len(calls)
    done = later.come(people)
    assert (done.fitted, done.kept) == (["bob", "carla"], ["ann"])
    assert not [asked for asked in calls[before:] if "bob" in asked.messages[-1].text]
    finished = [json.loads(line)["finished"] for line in (later.out / "invocations.jsonl").read_text().splitlines()]
    assert finished[-2:] == [False, True]


def test_where_the_pooled_head_was_chosen_nobody_is_asked(later, calls):
    choices = json.loads((later.out / "choices.json").read_text())
    for name in added.NAMES:
        choices["scorers"][name]["epochs"] = 0
    files.write_json(later.out / "choices.json", choices)
    done = later.come([person("ann")])
    assert (done.fitted, done.headed, calls) == (["ann"], [], [])
    assert all("0 epochs of personalisation, as validation chose (" in done.headless[name] for name in added.NAMES)
    found = answer.answer(later.out, "ann", "a question of ann", machine=later.machine)
    assert found.known and not found.personal and found.records


@pytest.mark.parametrize(
    ("pooled", "stages_left"),
    [("reranker", {llm_stages.ZERO_SHOT_LEARNED, llm_stages.SHOWN_LEARNED}), ("adapter", {llm_stages.RECORD_TRIALS})],
)
def test_nothing_is_asked_for_a_scorer_without_heads(later, pooled, stages_left):
    choices = json.loads((later.out / "choices.json").read_text())
    choices["scorers"][pooled]["epochs"] = 0
    files.write_json(later.out / "choices.json", choices)
    (planned,) = later.plan([person("ann")])
    assert {stage for stage, plan in planned.stages.items() if plan.calls} == stages_left
    assert later.come([person("ann")]).headed == [name for name in added.NAMES if name != pooled]
    assert set(added.find(later.out, "ann").heads) == {*added.NAMES} - {pooled}


def test_who_has_no_records_is_known_and_has_no_head(later, calls):
    later.come([person("cold", 0)])
    assert calls == []
    found = answer.answer(later.out, "cold", "a question", machine=later.machine)
    assert found.known and not found.personal and found.records == ()


def test_another_llm_asks_again(later):
    later.come([person("ann")])
    with pytest.raises(request.LLMError, match="unknown LLM 'gpt'"):
        later.come([person("ann")], llm="gpt")


def test_heads_of_other_scorers_are_refused_and_made_anew(later):
    later.come([person("ann")])
    path = later.out / "scorers" / "users.json"
    files.write_json(path, json.loads(path.read_text()) | {"shown": 2})
    with pytest.raises(DataError, match="personalise again"):
        answer.answer(later.out, "ann", "a question", machine=later.machine)
    assert later.come([person("ann")]).fitted == ["ann"]
    assert answer.answer(later.out, "ann", "a question", machine=later.machine).personal


def test_damaged_scorers_are_named_where_somebody_came_to_them(later):
    later.come([person("ann")])
    note, users = later.out / "scorers" / "adapter" / "scorer.json", later.out / "scorers" / "users.json"
    for damage, words in (
        (lambda: note.write_text(note.read_text().replace("sha256", "sha")), "does not describe a fitted scorer"),
        (note.unlink, "adapter: holds no fitted scorer"),
        (lambda: users.write_text("[]"), "users.json: holds a list, expected an object"),
        (lambda: shutil.rmtree(users.parent), "holds no trained run; repeat its command"),
    ):
        damage()
        with pytest.raises(DataError, match=words):
            answer.answer(later.out, "ann", "a question", machine=later.machine)


def test_a_damaged_file_is_named_and_made_anew(later):
    later.come([person("ann")])
    (path,) = (later.out / added.FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(DataError, match="is damaged.*personalise user 'ann' again"):
        answer.answer(later.out, "ann", "a question", machine=later.machine)
    assert later.come([person("ann")]).fitted == ["ann"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("[{", ["broken JSON"]),
        ("", ["holds no user"]),
        ("[]", ["holds no user"]),
        ([1], ["user number 0 is a number"]),
        ([{"profile": []}], ["user number 0", "nothing as 'user_id'"]),
        ([{"user_id": "ann"}], ["user 'ann'", "no 'profile'"]),
        ([person("ann") | {"queries": []}], ["user 'ann'", "'queries'", "user_id, profile"]),
        ([person("ann"), person("ann")], ["user 'ann'", "more than once"]),
        ([{"user_id": "ann", "profile": [{"id": "1", "text": "t"}]}], ["user 'ann'", "record '1'", "'score'"]),
        ([{"user_id": "ann", "profile": [{"id": "1", "text": "t", "score": "9"}]}], ["'9'", "1, 2, 3, 4, 5"]),
        ([person("train0")], ["'train0'", "were not in the run"]),
        (json.dumps(person("ann")) + "\n{", ["line 2", "broken JSON"]),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_asked(later, calls, rows, words):
    for call in (later.come, later.plan):
        with pytest.raises(DataError) as error:
            call(rows)
        for word in ("people.json", *words):
            assert word in str(error.value), error.value
    assert calls == [] and not (later.out / added.FOLDER).exists()


def test_a_missing_file_is_named(later):
    with pytest.raises(DataError, match="no.json: the file does not exist"):
        personalise.plan(later.out, later.out / "no.json", machine=later.machine)


def test_only_a_finished_run_of_real_users_can_be_joined(tmp_path, finished, later):
    path = later.write([person("ann")])
    demo = config_lib.Demo(llm="scripted")
    folded = dataclasses.replace(finished.config, folds=2)
    authors = authorship_config.Authorship(data=("a",), llm="scripted")
    for name, config, words in (
        ("begun", finished.config, "holds no trained run"),
        ("demo", demo, "users are simulated"),
        ("folds", folded, "holds 2 folds"),
        ("authors", authors, "of which this cannot be asked"),
    ):
        folder.prepare(tmp_path / name, config, "command")
        with pytest.raises(DataError, match=words):
            personalise.personalise(tmp_path / name, path, command="c", machine=later.machine, say=quiet)


def test_a_task_of_ones_own_reads_its_own_records(tmp_path, finished, later, calls):
    """The scorers of another task serve: what is asked and kept is this task's."""
    lines = [
        {"user_id": f"{split[0]}{i}", "profile": [{"id": "1", "message": f"of {split} {i}", "reply": "4"}],
         "queries": [{"id": f"{split}{i}-q", "inputs": {"message": f"{split} {i} asks"}, "output": "2"}]}
        for split in ("train", "dev") for i in range(3)
    ]  # fmt: skip
    for split in ("train", "dev"):
        own = [json.dumps(line) for line in lines if line["user_id"][0] == split[0]]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(own))
    (tmp_path / "tone.toml").write_text(
        'name = "tone"\nkind = "rating"\nlabels = ["1", "2", "3", "4", "5"]\ntemplate = "Answer: {message}"\n'
        'answer = "reply"\n'
        'inputs = {message = "message"}\ncorpus = ["message", "reply"]\n'
    )
    values = {f.name: getattr(finished.config, f.name) for f in dataclasses.fields(finished.config)}
    config = config_lib.Custom(**values | {"task": str(tmp_path / "tone.toml"), "data_dir": str(tmp_path)})
    (later.out / "config.json").unlink()
    files.write_json(later.out / "config.json", {**kinds.to_json(config), "command": "c"})
    profile = [{"message": f"message {i} of ann", "reply": str(i + 1)} for i in range(4)]
    assert later.come([{"user_id": "ann", "profile": profile}]).calls > 0
    asked = [request.messages[-1].text for request in calls]
    assert asked and all("Answer: message" in text and "of ann" in text for text in asked)
    assert [record.id for record in added.find(later.out, "ann").user.profile] == ["0", "1", "2", "3"]
    assert answer.answer(later.out, "ann", "a new message", machine=later.machine).known


def test_a_users_file_holds_what_was_put_in(tmp_path):
    records = [
        Record(id="1", fields={"text": 'quotes " and ä'}, date="2020-01-02"),
        Record(id="2", fields={"text": ""}),
    ]
    user = User(id="ann/../ä", profile=tuple(records))
    tree = {"w": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(1, 3, 4)), "deep/b": np.arange(1.0)}
    for heads in ({}, {"adapter": {}}, {"reranker": {}, "adapter": tree}):
        kept = added.Added(user=user, heads=heads, made_of="m", system="s")
        added.save(tmp_path, kept)
        found = added.find(tmp_path, user.id)
        assert (found.user, found.made_of, found.system, set(found.heads)) == (user, "m", "s", set(heads))
        for name, own in heads.items():
            assert all(map(np.array_equal, leaves(found.heads[name], 0), leaves(own, 0)))
    assert added.find(tmp_path, "bob") is None
    assert len(list((tmp_path / added.FOLDER).iterdir())) == 1
