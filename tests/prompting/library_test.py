import dataclasses

import pytest

from hydrajax.data import tasks
from hydrajax.llm import planner, store
from hydrajax.prompting import contract, library
from hydrajax.types import DataError, Record, User

MODEL = contract.UserModel(text="calm", records=("r0", "r1"), shown=("r1",), prompt="abc", llm="m", fault="prose")
KEY = library.Key("hypotheses", "u")
OTHERS = (library.Key("hypotheses", "u", "first"), library.Key("persona", "u"), library.Key("hypotheses", "v"))
ENTRY = library.Entry(model=MODEL, calls=2, input_tokens=30, output_tokens=4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "user_models.jsonl"


@pytest.fixture
def filled(path):
    found = library.Library(path)
    found.add(dict.fromkeys((KEY, *OTHERS), ENTRY))
    return found


def test_what_is_added_is_there_again(path, filled):
    again = library.Library(path)
    assert again.items() == filled.items() and len(again.items()) == 4
    assert again[KEY] == ENTRY


def test_in_memory_nothing_is_written(tmp_path):
    kept = library.Library()
    kept.add({KEY: ENTRY})
    assert KEY in kept and not list(tmp_path.iterdir())


def test_an_edited_text_is_used_and_marked(path, filled):
    filled.edit(KEY, " terse\n")
    (model,) = [m for k, m in library.Library(path).items() if k == KEY]
    assert model == dataclasses.replace(MODEL, text="terse", edited=True)
    assert library.Library(path)[KEY].calls == 2


def test_deleting_leaves_nothing_of_the_text_and_is_remembered(path, filled):
    assert filled.delete("u", "hypotheses") == 2
    again = library.Library(path)
    assert {k for k, _ in again.items()} == {OTHERS[1], OTHERS[2]}
    assert KEY in again and again[KEY].model is None
    assert filled.delete("u") == 1 and filled.delete("v") == 1
    assert "calm" not in path.read_text()


def test_a_deleted_one_can_be_written_by_hand(path, filled):
    filled.delete("u")
    filled.edit(KEY, "terse")
    again = library.Library(path)[KEY]
    assert again == dataclasses.replace(ENTRY, model=dataclasses.replace(MODEL, text="terse", edited=True))


def test_one_deleted_before_origins_were_kept_can_be_written_too(path):
    path.parent.mkdir()
    path.write_text('{"strategy": "hypotheses", "user_id": "u", "part": "whole", "model": null, "calls": 2}\n')
    library.Library(path).edit(KEY, "terse")
    assert library.Library(path)[KEY].model == contract.UserModel(text="terse", records=(), edited=True)


def test_what_a_person_changes_during_a_run_wins(path, filled):
    elsewhere = library.Library(path)
    elsewhere.edit(KEY, "terse")
    elsewhere.delete("u", "persona")
    filled.add({key: library.Entry(model=MODEL, calls=1) for key in (KEY, OTHERS[1], OTHERS[2])})
    filled.add({library.Key("pag", "u"): ENTRY})
    for found in (filled, library.Library(path)):
        assert found[KEY].model.text == "terse" and found[OTHERS[1]].model is None
        assert found[OTHERS[2]].calls == 1 and found[library.Key("pag", "u")] == ENTRY
    elsewhere.edit(library.Key("pag", "u"), "added since")
    assert library.Library(path)[OTHERS[2]].calls == 1


def test_a_user_of_whom_nothing_is_learned_any_more_leaves_the_file(path, filled):
    filled.add({KEY: library.Entry(model=None, fingerprint="abc")})
    assert KEY in filled and KEY not in library.Library(path) and OTHERS[0] in library.Library(path)


def test_what_was_made_of_the_same_fits_and_so_does_what_is_a_persons(path, filled):
    filled.add({OTHERS[0]: dataclasses.replace(ENTRY, fingerprint="abc"), OTHERS[1]: ENTRY})
    assert filled.fits(OTHERS[0], "abc") and not filled.fits(OTHERS[0], "abd")
    assert filled.fits(OTHERS[1], "abd")  # of an old file
    filled.edit(OTHERS[0], "terse")
    assert library.Library(path).fits(OTHERS[0], "abd")
    filled.delete("u")
    assert library.Library(path).fits(OTHERS[0], "abd")
    assert not filled.fits(library.Key("pag", "u"), "abc")


@pytest.mark.parametrize(
    "change",
    [
        {"user": User(id="u", profile=(Record(id="r0", fields={"text": "other"}),))},
        {"user": User(id="u", profile=(Record(id="r0", fields={"text": "calm"}, date="2020"),))},
        {"ctx": {"task": tasks.LAMP["LaMP_5"]}},
        {"ctx": {"settings": contract.PromptSettings(summary_records=3)}},
        {"ctx": {"llm": planner.Planner("other", store.Store.without_making())}},
        {"ctx": {"seed": 1}},
        {"others": "abc"},
    ],
)
def test_a_fingerprint_changes_with_what_a_model_is_made_of(change):
    user = User(id="u", profile=(Record(id="r0", fields={"text": "calm"}),))
    llm = planner.Planner("m", store.Store.without_making())
    ctx = contract.Context(task=tasks.LAMP["LaMP_4"], llm=llm)
    found = library.fingerprint(user, ctx)
    assert found == library.fingerprint(user, dataclasses.replace(ctx))
    other = dataclasses.replace(ctx, **change.get("ctx", {}))
    assert found != library.fingerprint(change.get("user", user), other, change.get("others", ""))


@pytest.mark.parametrize("call", [lambda x: x.edit(library.Key("pag", "u"), "t"), lambda x: x.delete("w")])
def test_what_is_not_there_is_said(call, filled):
    with pytest.raises(DataError, match="there is no user model of user"):
        call(filled)


def test_an_empty_text_is_refused(path, filled):
    before = path.read_bytes()
    with pytest.raises(DataError, match="is empty; to have none, delete"):
        filled.edit(KEY, " \n")
    assert path.read_bytes() == before


def test_nobody_of_whom_nothing_was_asked_is_in_the_file(path):
    kept = library.Library(path)
    kept.add({library.Key("rag", "u"): library.Entry(model=None)})
    assert not path.exists() and library.Key("rag", "u") in kept


@pytest.mark.parametrize(
    "line", ["{}", '{"strategy": "s", "user_id": "u", "part": "whole", "model": 3}', "[1]", "no json",
             '{"strategy": "s", "user_id": "u", "part": "whole", "model": {"word": 1}}']
)  # fmt: skip
def test_a_broken_line_is_one_sentence(path, line):
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=str(path)):
        library.Library(path)
