import dataclasses
import json
import shutil

import pytest

from hydrajax.prompting import contract
from hydrajax.runs import authorship_config, load, load_authors
from hydrajax.runs import config as config_lib
from hydrajax.runs import lamp as lamp_lib
from hydrajax.types import DataError, Query, Split, User


def test_nobody_is_in_two_groups(tmp_path, lamp, config):
    data = load.read(config(lamp(tmp_path)))
    people = lamp_lib.people_of(config(tmp_path), data)
    assert not set(people.train) & set(people.validation)
    assert {*people.train, *people.validation} == {f"train{i}" for i in range(6)}
    assert set(people.new) == {f"dev{i}" for i in range(3)}
    # .34 of six users with questions, rounded up
    assert len(people.validation) == 3
    assert set(data.users) == {*people.train, *people.validation, *people.new}
    for queries, group in (
        (people.label_queries, people.train),
        (people.validation_queries, people.validation),
        (people.new_queries, people.new),
    ):
        assert {query.user_id for query in queries} == set(group)


def test_who_is_drawn_depends_on_the_seed_and_a_smaller_draw_is_part_of_a_larger(tmp_path, lamp, config):
    lamp(tmp_path, dev=9, cold=0)
    drawn = {
        (n, seed): list(load.read(config(tmp_path, dev_users=n, seed=seed)).dev.users)
        for n, seed in ((4, 0), (6, 0), (4, 1))
    }
    assert drawn[4, 0] == drawn[6, 0][:4]
    assert drawn[4, 0] != drawn[4, 1]


def test_what_validation_users_are_asked_is_in_no_training_users_data(tmp_path, lamp, config):
    lamp(tmp_path)
    first = load.read(config(tmp_path))
    query = first.validation.queries[0]
    path = tmp_path / "LaMP_2M" / "train_questions.json"
    questions = json.loads(path.read_text())
    for row in questions:
        if row["id"] in first.train.users:
            row["profile"].append({"id": "same", "description": query.inputs["text"].upper(), "tag": query.gold})
    path.write_text(json.dumps(questions))
    data = load.read(config(tmp_path))
    texts = [r.fields["description"].lower() for user in data.train.users.values() for r in user.profile]
    assert len(texts) == 4 * len(data.train.users)
    assert query.inputs["text"] not in texts


def test_the_demo_has_rewards_and_its_users_differ_between_groups(config):
    wanted = config_lib.Demo(train_users=4, dev_users=3, queries_per_user=1)
    data = load.read(wanted)
    first = data.dev.queries[0]
    other = dataclasses.replace(first, user_id="dev-1")
    assert data.task.kind == "reward" and data.reward(first, first.gold) != data.reward(other, first.gold)
    assert len(data.users) == 7 and len(data.dev.queries) == 3


def test_label_queries_are_limited_by_user(tmp_path, lamp, config, settings):
    folder = lamp(tmp_path / "data", "LaMP_3")
    path = folder / "LaMP_3" / "train_questions.json"
    golds = folder / "LaMP_3" / "train_outputs.json"
    questions, outputs = json.loads(path.read_text()), json.loads(golds.read_text())
    for row in questions:
        row["user_id"] = f"user of {row['id']}"
    again = [{**row, "id": row["id"] + "b", "input": row["input"] + " twice"} for row in questions]
    path.write_text(json.dumps(questions + again))
    outputs["golds"] += [{**row, "id": row["id"] + "b"} for row in outputs["golds"]]
    golds.write_text(json.dumps(outputs))
    for limit, each in ((1, 1), (None, 2)):
        wanted = config(folder, "LaMP_3", settings=settings(label_queries=limit))
        people = lamp_lib.people_of(wanted, load.read(wanted))
        asked = [query.user_id for query in people.label_queries]
        assert sorted(asked) == sorted(list(people.train) * each)


def test_own_tasks_are_read_from_their_declaration(tmp_path, config):
    (tmp_path / "tone.toml").write_text(
        'name = "tone"\nkind = "generation"\ntemplate = "Answer: {message}"\nanswer = "reply"\n'
    )
    for split, ids in (("train", "abc"), ("dev", "xy")):
        lines = [
            {
                "user_id": f"{split}-{i}",
                "profile": [{"id": "1", "message": f"old {i}", "reply": f"said {i}"}],
                "queries": [{"id": f"{split}-{i}-q", "inputs": {"message": f"new {i}"}, "output": f"gold {i}"}],
            }
            for i in ids
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    data = load.read(config(tmp_path, str(tmp_path / "tone.toml"), kind=config_lib.Custom))
    assert data.task.name == "tone" and len(data.users) == 5


def test_a_user_belongs_to_one_side(tmp_path, lamp, config):
    lamp(tmp_path, "LaMP_3")
    for name in ("questions", "outputs"):
        path = tmp_path / "LaMP_3" / f"dev_{name}.json"
        path.write_text(path.read_text().replace('"dev0"', '"train0"'))
    for folds in (0, 3):
        with pytest.raises(DataError, match="train0"):
            load.read(config(tmp_path, "LaMP_3", folds=folds, fold=0 if folds else None))


def test_a_question_id_belongs_to_one_side(tmp_path, config):
    (tmp_path / "tone.toml").write_text(
        'name = "tone"\nkind = "generation"\ntemplate = "Answer: {message}"\nanswer = "reply"\n'
    )
    for split in ("train", "dev"):
        lines = [
            {
                "user_id": f"{split}-{i}",
                "profile": [],
                "queries": [{"id": f"q{i}", "inputs": {"message": f"{split} {i}"}, "output": "gold"}],
            }
            for i in range(3)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(DataError, match="q0"):
        load.read(config(tmp_path, str(tmp_path / "tone.toml"), kind=config_lib.Custom))


def test_an_own_task_needs_a_folder(tmp_path, config):
    path = tmp_path / "tone.toml"
    path.write_text('name = "tone"\nkind = "generation"\ntemplate = "Answer: {message}"\n')
    with pytest.raises(DataError, match="--data-dir"):
        load.read(config("", str(path), kind=config_lib.Custom, data_dir=None))


def test_folds_keep_users_apart_and_clean(tmp_path, lamp, config):
    lamp(tmp_path, train=5, dev=4)
    path = tmp_path / "LaMP_2M" / "train_questions.json"
    questions = json.loads(path.read_text())
    shared = {"id": "shared", "description": questions[0]["input"].split("description: ")[1], "tag": "comedy"}
    for row in questions[1:]:
        row["profile"].append(shared)
    path.write_text(json.dumps(questions))
    for fold in range(3):
        data = load.read(config(tmp_path, folds=3, fold=fold))
        assert not set(data.dev.users) & {*data.train.users, *data.validation.users}
        assert len(data.users) == 9
        if "train0" in data.dev.users:
            assert data.removed.train_records + data.removed.held_out_records == 4
            assert all("shared" not in [r.id for r in user.profile] for user in data.users.values())


def test_given_divisions_are_cleaned_too_and_the_reader_is_told(tmp_path, lamp, config):
    lamp(tmp_path, "LaMP_3", train=6, dev=3)
    folder = tmp_path / "LaMP_3"
    asked = json.loads((folder / "dev_questions.json").read_text())
    text = asked[0]["input"].split("review: ")[1]
    same = {"id": "same", "text": text.upper(), "score": "3"}
    train = json.loads((folder / "train_questions.json").read_text())
    train[0]["profile"].append(same)
    (folder / "train_questions.json").write_text(json.dumps(train))
    asked[0]["profile"].append(same)
    (folder / "dev_questions.json").write_text(json.dumps(asked))
    data = load.read(config(tmp_path, "LaMP_3"))
    holders = [u.id for u in data.users.values() if "same" in [r.id for r in u.profile]]
    assert holders == [asked[0]["id"]]
    own, removed = data.notes
    assert own.startswith("1 of 3 questions of new users ask what a record of the asker's own profile answers")
    assert asked[0]["id"] in own
    assert removed == "removed, since new users' questions ask for it: 1 train records"


def test_a_copy_of_the_data_is_the_same_data(tmp_path, lamp, config):
    lamp(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load.read(config(tmp_path / "a")) == load.read(config(tmp_path / "b"))


def test_a_user_or_question_on_both_sides_is_refused():
    def split(name, user, question):
        asked = (Query(id=question, user_id=user, inputs={"text": "x"}, gold="1"),)
        return Split(name=name, users={user: User(id=user)}, queries=asked)

    load._disjoint(split("train", "a", "1"), split("dev", "b", "2"))
    with pytest.raises(DataError, match="1 user ids are in 'train' and in 'dev', the first is 'a'"):
        load._disjoint(split("train", "a", "1"), split("dev", "a", "2"))
    with pytest.raises(DataError, match="1 question ids are in 'train' and in 'dev', the first is '1'"):
        load._disjoint(split("train", "a", "1"), split("dev", "b", "1"))


def test_feedback_of_nobody_is_refused_with_the_data(tmp_path, lamp, config, settings):
    with pytest.raises(DataError, match="nobody has said anything"):
        load.load(config(lamp(tmp_path), settings=settings(adapter_pools="feedback")), print)


def test_a_strategy_that_needs_what_the_data_lack_is_left_out_and_said(tmp_path, lamp, config, settings):
    """No two users of these data share an article: what they wrote on it cannot be compared."""
    told = settings(strategies=("rag", "peer_difference"), candidates=3)
    wanted, said = config(lamp(tmp_path, "LaMP_4"), "LaMP_4", settings=told), []
    data = load.load(wanted, said.append)
    (note,) = [line for line in said if "peer_difference" in line]
    assert note.startswith("note: ") and note.endswith("it is left out") and note.removeprefix("note: ") in data.notes
    assert load.strategies(wanted, data) == ("rag",)
    similar = contract.PromptSettings(compare_on="nearest")
    wanted = dataclasses.replace(wanted, settings=dataclasses.replace(told, prompts=similar))
    assert load.strategies(wanted, load.load(wanted, said.append)) == ("rag", "peer_difference")


def test_texts_of_authors_share_no_item(tmp_path):
    lines = (
        {
            "author": f"a{i}",
            "file": f"{j}.txt",
            "text": f"Day {i} {j} began. Then " + " ".join(f"w{i}{j}{n}" for n in range(60)),
        }
        for i in range(3)
        for j in range(8)
    )
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    wanted = authorship_config.Authorship(
        data=(str(tmp_path / "texts.jsonl"),), authors=3, shown=2, validation=1, test=1, strategies=("peer_difference",)
    )
    with pytest.raises(DataError, match="no item of authorship has 4 writers .*: leave it out"):
        load_authors.load(wanted, str)
